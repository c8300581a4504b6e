"""What was predicted for one image, and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dpt.visualization import compose, draw_overlay, present_classes


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one image.

    Attributes:
        name: Path of the image, or what stands for it.
        image: The image, BGR, uint8, of shape HxWx3.
        labels: Class index of each pixel, of shape HxW, in the smallest integer type.
        classes: Names of the K classes.
        palette: Their colours, RGB, uint8, of shape Kx3.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    palette: np.ndarray

    def present(self) -> list[int]:
        """Return the indices of the classes in the image, in ascending order."""
        return present_classes(len(self.classes), self.labels)

    def areas(self) -> dict[str, float]:
        """Return the share of the image that each class covers, in per cent, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        order = sorted(self.present(), key=lambda k: (-counts[k], k))
        return {self.classes[k]: 100 * float(counts[k]) / self.labels.size for k in order}

    def overlay(self, opacity: float = 0.6, *, legend: bool | Sequence[int] = False) -> np.ndarray:
        """Draw the classes' colours over the image.

        Args:
            opacity: From 0 (the image alone) to 1 (the colours alone).
            legend: Whether the names of the classes that are present stand beneath, under a title and, if
                the image is small, at a larger size; or the indices of those that shall.

        Returns:
            RGB picture, uint8, of shape HxWx3 without a legend.
        """
        if not 0 <= opacity <= 1:
            raise ValueError(f'opacity must be from 0 to 1, not {opacity}')
        rgb = cv2.cvtColor(self.image, cv2.COLOR_BGR2RGB)
        picture = draw_overlay(rgb, self.labels, self.palette, opacity)
        if legend is False:
            return picture
        shown = self.present() if legend is True else list(legend)
        return compose([('prediction', picture)], [self.classes[k] for k in shown], self.palette[shown])
