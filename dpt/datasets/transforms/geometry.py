"""Cropping and resizing an image together with its label maps."""

from collections.abc import Callable, Sequence

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from dpt.registry import TRANSFORMS
from dpt.structures import IGNORE_INDEX

CROP_TRIES = 10
"""How often a crop that one class dominates is drawn anew (the published ADE20K recipe)."""

EXACT_IN_FLOAT32 = 1 << 24
"""Below this many pixels OpenCV's histogram, in float32, counts exactly."""

SAMPLE_STEP = 16
"""Distance of the rows and columns from whose labels a guess is made."""

Box = tuple[int, int, int, int]
"""Top, bottom, left, right; bottom and right are exclusive and may lie outside the image."""


def dominated(labels: np.ndarray, max_ratio: float, ignore_index: int = IGNORE_INDEX) -> bool:
    """Whether one class covers at least ``max_ratio`` of the labelled pixels, or is the only one there.

    Args:
        labels: Non-negative whole numbers of shape HxW.
        max_ratio: Share of the pixels whose label is not ``ignore_index``.
        ignore_index: The label that does not count.
    """
    if labels.dtype != np.uint8 or labels.size >= EXACT_IN_FLOAT32:
        counts: np.ndarray = np.bincount(labels.ravel())
    elif (guess := _guess_dominated(labels, max_ratio, ignore_index)) is not None:
        return guess
    else:
        counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()  # less time than bincount
    if ignore_index < len(counts):
        counts[ignore_index] = 0
    return bool(np.count_nonzero(counts) < 2 or counts.max() / counts.sum() >= max_ratio)


def _guess_dominated(labels: np.ndarray, max_ratio: float, ignore_index: int) -> bool | None:
    """What the pixels below one label, of it and above it tell; None if that is not enough.

    The label is guessed from a sample: the middle one, beside which no side is likely to hold more than half.
    """
    sample = labels[::SAMPLE_STEP, ::SAMPLE_STEP].ravel()
    sample = np.sort(sample[sample != ignore_index])
    if not sample.size:
        return None
    middle = int(sample[sample.size // 2])
    ignored = np.count_nonzero(labels == ignore_index)
    total = labels.size - ignored
    same = np.count_nonzero(labels == middle)
    if same / total >= max_ratio:
        return True
    lower = np.count_nonzero(labels < middle) - (ignored if ignore_index < middle else 0)
    return None if max(lower, total - lower - same) / total >= max_ratio else False


@TRANSFORMS.register_module()
class RandomCrop(BaseTransform):
    """Cut the same random window out of the image and of every map named in ``seg_fields``.

    A side shorter than the window is kept whole: the result is then smaller than ``crop_size``. The results
    are views. Writes ``img``, ``img_shape`` and the maps.

    Draws one row offset, then one column offset, from ``np.random.randint``, also where only one offset is
    possible. With ``cat_max_ratio`` below 1, a window that is :func:`dominated` is drawn anew, ten times
    at most; the last one drawn is taken as it is.

    Args:
        crop_size: (height, width), or one number for both.
        cat_max_ratio: Share of a window's labelled pixels that one class has to stay below.
        ignore_index: The label that does not count.
    """

    def __init__(
        self,
        crop_size: int | Sequence[int],
        cat_max_ratio: float = 1.0,
        *,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        sides = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(f'crop_size is {crop_size!r}: a positive number or (height, width) was expected')
        if not 0 < cat_max_ratio <= 1:
            raise ValueError(f'cat_max_ratio is {cat_max_ratio}: a number above 0, at most 1, was expected')
        self.crop_size = sides
        self.cat_max_ratio = cat_max_ratio
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        image = results['img']
        for name in results.get('seg_fields', []):
            if results[name].shape[:2] != image.shape[:2]:
                raise ValueError(
                    f'{results.get("img_path")} is {image.shape[:2]} (height, width) here, its {name} is '
                    f'{results[name].shape[:2]}: LoadAnnotations must stand before the transforms that resize'
                )
        top, bottom, left, right = self.choose_box(image.shape[:2], results.get('gt_seg_map'))
        results['img'] = image[top:bottom, left:right]
        for name in results.get('seg_fields', []):
            results[name] = results[name][top:bottom, left:right]
        results['img_shape'] = results['img'].shape[:2]
        return results

    @cache_randomness
    def choose_box(self, size: tuple[int, int], labels: np.ndarray | None = None) -> Box:
        """Draw a window.

        Args:
            size: (height, width) of the image.
            labels: Its label map; needed if ``cat_max_ratio`` is below 1.
        """
        look = None if labels is None else lambda box: labels[box[0] : box[1], box[2] : box[3]]
        return self.choose_window(size, look)[0]

    def choose_window(
        self, size: tuple[int, int], look: Callable[[Box], np.ndarray] | None
    ) -> tuple[Box, np.ndarray | None]:
        """Draw a window, and return what ``look`` shows in it.

        Args:
            size: (height, width) of the image.
            look: Returns the labels in a window; needed if ``cat_max_ratio`` is below 1.
        """
        if look is None and self.cat_max_ratio < 1:
            raise ValueError('RandomCrop with cat_max_ratio below 1 needs LoadAnnotations before it')
        box = self._draw_box(*size)
        if look is None:
            return box, None
        window = look(box)
        if self.cat_max_ratio == 1:
            return box, window
        for _ in range(CROP_TRIES):
            if not dominated(window, self.cat_max_ratio, self.ignore_index):
                break
            box = self._draw_box(*size)
            window = look(box)
        return box, window

    def _draw_box(self, height: int, width: int) -> Box:
        crop_height, crop_width = self.crop_size
        top = int(np.random.randint(0, max(height - crop_height, 0) + 1))
        left = int(np.random.randint(0, max(width - crop_width, 0) + 1))
        return top, top + crop_height, left, left + crop_width

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(crop_size={self.crop_size}, cat_max_ratio={self.cat_max_ratio}, '
            f'ignore_index={self.ignore_index})'
        )


@TRANSFORMS.register_module()
class ResizeToMultiple(BaseTransform):
    """Stretch the image and every map named in ``seg_fields`` to the next multiple of a number.

    Each side is rounded up by itself, so the aspect may change a little. Writes ``img``, ``img_shape``,
    ``pad_shape`` and the maps, which are resized by nearest neighbour.

    Args:
        size_divisor: A number for both sides or, as in mmcv, (width, height).
        interpolation: mmcv's name of the image's interpolation; None means 'bilinear'.
    """

    def __init__(self, size_divisor: int | tuple[int, int] = 32, interpolation: str | None = None) -> None:
        self.size_divisor = size_divisor
        self.interpolation = interpolation or 'bilinear'

    def transform(self, results: dict) -> dict:
        image = self._resize(results['img'], self.interpolation)
        results['img'] = image
        results['img_shape'] = results['pad_shape'] = image.shape[:2]
        for name in results.get('seg_fields', []):
            results[name] = self._resize(results[name], 'nearest')
        return results

    def _resize(self, pixels: np.ndarray, interpolation: str) -> np.ndarray:
        return mmcv.imresize_to_multiple(
            pixels, self.size_divisor, scale_factor=1, interpolation=interpolation
        )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size_divisor={self.size_divisor}, interpolation={self.interpolation!r})'
        )
