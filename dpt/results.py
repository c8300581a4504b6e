"""Predictions for one image, which can be shown, saved and summarised."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dpt.visualization import compose, draw_overlay, present_classes
from dpt.visualization.files import encode_picture, show_picture, write_labels, write_picture


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

    def __repr__(self) -> str:
        height, width = self.labels.shape
        areas = ', '.join(f'{name} {area:.1f} %' for name, area in [*self.areas().items()][:3])
        return f'Segmentation({self.name}: {height}x{width}, {len(self.present())} classes: {areas})'

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
        if not 0 <= opacity <= 1:
            raise ValueError(f'opacity must be from 0 to 1, not {opacity}')
        rgb = cv2.cvtColor(self.image, cv2.COLOR_BGR2RGB)
        picture = draw_overlay(rgb, self.labels, self.palette, opacity)
        if legend is False:
            return picture
        shown = self.present() if legend is True else list(legend)
        return compose([('prediction', picture)], [self.classes[k] for k in shown], self.palette[shown])

    def save(self, path: str | Path, opacity: float = 0.6, *, legend: bool | Sequence[int] = True) -> None:
        """Write :meth:`overlay` to a picture file whose suffix gives the format, such as ``.png``.

        Raises:
            ValueError: If the format is unknown.
            OSError: If the file cannot be written.
        """
        write_picture(path, self.overlay(opacity, legend=legend))

    def save_labels(self, path: str | Path) -> None:
        """Write the class index of each pixel to a grey PNG, of 16 bits if there are more than 256 classes.

        Raises:
            ValueError: If the name does not end in ``.png``, because other formats would change the indices.
            OSError: If the file cannot be written.
        """
        if Path(path).suffix.lower() != '.png':
            raise ValueError(f'{path}: label maps are written as PNG: give a name that ends in .png')
        write_labels(Path(path), self.labels)

    def show(self, opacity: float = 0.6, *, legend: bool | Sequence[int] = True) -> None:
        """Show :meth:`overlay` with matplotlib: below the cell in a notebook, elsewhere in a window.

        Raises:
            ValueError: If there is no display.
        """
        show_picture(self.overlay(opacity, legend=legend))

    def _repr_png_(self) -> bytes:  # what a notebook shows for the last value of a cell
        return encode_picture('.png', self.overlay(legend=True))
