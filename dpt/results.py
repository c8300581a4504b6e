"""Results of :class:`dpt.apis.Predictor` for one image."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dpt.visualization import DepthScale, compose, draw_overlay, present_classes


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Predicted labels of one image.

    Attributes:
        name: Path of the image, or ``image N`` for the N-th array, counted from 0.
        image: The image, BGR, uint8, of shape HxWx3.
        labels: Class index of each pixel, of shape HxW: uint8 for up to 256 classes, otherwise int64.
        classes: Names of the K classes.
        palette: Colours of the classes, RGB, uint8, of shape Kx3.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    palette: np.ndarray

    def present(self) -> list[int]:
        """Return the indices of the predicted classes, in ascending order."""
        return present_classes(len(self.classes), self.labels)

    def areas(self) -> dict[str, float]:
        """Return the area of each predicted class in percent of the image, largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        order = sorted(self.present(), key=lambda k: (-counts[k], k))
        return {self.classes[k]: 100 * float(counts[k]) / self.labels.size for k in order}

    def overlay(self, opacity: float = 0.6, *, legend: bool | Sequence[int] = False) -> np.ndarray:
        """Blend the class colours over the image.

        Args:
            opacity: Opacity of the colours: 0 shows only the image, 1 only the colours.
            legend: Whether to add a title and a legend of the predicted classes (this also enlarges small
                images), or the class indices to list in the legend.

        Returns:
            RGB picture, uint8. Without a legend, its shape is HxWx3.
        """
        check_opacity(opacity)
        rgb = cv2.cvtColor(self.image, cv2.COLOR_BGR2RGB)
        picture = draw_overlay(rgb, self.labels, self.palette, opacity)
        if legend is False:
            return picture
        shown = self.present() if legend is True else list(legend)
        return compose([('prediction', picture)], [self.classes[k] for k in shown], self.palette[shown])


@dataclass(frozen=True, eq=False)
class Depth:
    """Predicted depth of one image.

    Attributes:
        name: Path of the image, or ``image N`` for the N-th array, counted from 0.
        image: The image, BGR, uint8, of shape HxWx3.
        depth: Depth of each pixel, float32 of shape HxW, in the unit of the training data (metres in
            published data sets); or inverse depth up to an unknown scale and shift if ``relative``.
        relative: Whether ``depth`` is such an inverse depth: larger is nearer.
    """

    name: str
    image: np.ndarray
    depth: np.ndarray
    relative: bool = False

    def scale(self) -> DepthScale:
        """Return the colours for the range of this image, to draw others in the same colours."""
        return DepthScale.of(self.depth, relative=self.relative)

    def overlay(
        self, opacity: float = 1.0, *, legend: bool = False, scale: DepthScale | None = None
    ) -> np.ndarray:
        """Draw depth in colours, from near (red) to far (blue).

        Args:
            opacity: Opacity of the colours: 0 shows only the image, 1 only the colours.
            legend: Whether to add a title and a scale bar (this also enlarges small images).
            scale: Range of the colours; None takes that of this image.

        Returns:
            RGB picture, uint8. Without a legend, its shape is HxWx3.
        """
        check_opacity(opacity)
        scale = scale or self.scale()
        rgb = cv2.cvtColor(self.image, cv2.COLOR_BGR2RGB)
        picture = cv2.addWeighted(rgb, 1 - opacity, scale.draw(self.depth), opacity, 0)
        if not legend:
            return picture
        title = 'predicted depth (relative)' if self.relative else 'predicted depth'
        return compose([(title, picture)], bars=[scale.bar()])


Result = Segmentation | Depth
"""What :class:`dpt.apis.Predictor` returns for an image."""


def check_opacity(opacity: float) -> None:
    """Raise ValueError unless an opacity is between 0 and 1."""
    if not 0 <= opacity <= 1:
        raise ValueError(f'opacity must be from 0 to 1, not {opacity}')
