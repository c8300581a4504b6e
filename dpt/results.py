"""Results of :class:`dpt.apis.Predictor` for one image, which can be shown, saved and summarised."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dpt.visualization import DepthScale, compose, draw_overlay, present_classes
from dpt.visualization.files import encode_picture, show_picture, write_depth, write_labels, write_picture


class Pictured:
    """A result with an ``overlay``."""

    def overlay(self, opacity: float = 0.6, *, legend: Any = False) -> np.ndarray:
        """Return an RGB picture, uint8."""
        raise NotImplementedError

    def save(self, path: str | Path, **options: Any) -> None:
        """Write :meth:`overlay`, with a legend, to a picture file whose suffix gives the format.

        Args:
            path: File, such as ``'overlay.png'``.
            options: Arguments of :meth:`overlay`.

        Raises:
            ValueError: If the format is unknown.
            OSError: If the file cannot be written.
        """
        write_picture(path, self.overlay(**{'legend': True, **options}))

    def show(self, **options: Any) -> None:
        """Show :meth:`overlay`, with a legend: below the cell in a notebook, elsewhere in a window.

        Args:
            options: Arguments of :meth:`overlay`.

        Raises:
            ValueError: If there is no display.
        """
        show_picture(self.overlay(**{'legend': True, **options}))

    def _repr_png_(self) -> bytes:  # what a notebook shows for the last value of a cell
        return encode_picture('.png', self.overlay(legend=True))


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation(Pictured):
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

    def save_labels(self, path: str | Path) -> None:
        """Write the class index of each pixel to a grey PNG, of 16 bits if there are more than 256 classes.

        Raises:
            ValueError: If the name does not end in ``.png``, because other formats would change the indices.
            OSError: If the file cannot be written.
        """
        if Path(path).suffix.lower() != '.png':
            raise ValueError(f'{path}: label maps are written as PNG: give a name that ends in .png')
        write_labels(Path(path), self.labels)

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


@dataclass(frozen=True, eq=False, repr=False)
class Depth(Pictured):
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

    def __repr__(self) -> str:
        height, width = self.depth.shape
        found = (
            'relative' if self.relative else ', '.join(f'{k} {v:.2f}' for k, v in self.distances().items())
        )
        return f'Depth({self.name}: {height}x{width}, {found})'

    def distances(self) -> dict[str, float]:
        """Return the nearest, the median and the farthest depth, in the unit of ``depth``.

        Raises:
            ValueError: If the depth is relative, so that it has no unit.
        """
        if self.relative:
            raise ValueError(
                'relative depth has no distances: use a metric model, or align it to a measurement'
            )
        values = np.percentile(self.depth, (0, 50, 100))
        return dict(zip(('nearest', 'median', 'farthest'), map(float, values), strict=True))

    def save_depth(self, path: str | Path, factor: float = 1000) -> None:
        """Write the depth of each pixel: float32 as ``.npy``, or 16-bit whole numbers as ``.png``.

        Args:
            path: File that ends in ``.npy`` or ``.png``.
            factor: Number in a PNG for one unit of depth, such as 1000 for millimetres.

        Raises:
            ValueError: If the name has another suffix, or a PNG cannot hold the depth.
            OSError: If the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in ('.npy', '.png'):
            raise ValueError(f'{path}: depth is written as .npy or .png')
        if suffix == '.png' and self.relative:
            raise ValueError(f'{path}: relative depth has no unit for a PNG: give a name that ends in .npy')
        write_depth(Path(path).with_suffix(''), self.depth, factor if suffix == '.png' else None)

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
