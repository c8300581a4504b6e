"""Resize, crop and flip an image together with its label maps."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import mmcv
import mmcv.transforms
import numpy as np
from mmcv.transforms import BaseTransform, RandomResize
from mmcv.transforms.utils import cache_randomness

from dpt.datasets.bad_sample import TOO_NARROW, BadSampleError
from dpt.datasets.transforms.maps import RandomFlip, Resize
from dpt.registry import TRANSFORMS
from dpt.structures import IGNORE_INDEX

CROP_TRIES = 10
"""Maximum number of redraws of a crop that one class dominates (published recipe for ADE20K)."""

EXACT_IN_FLOAT32 = 1 << 24
"""Number of pixels below which the float32 counts of OpenCV's histogram are exact."""

SAMPLE_STEP = 16
"""Distance between the rows and columns from which the median label is estimated."""

Box = tuple[int, int, int, int]
"""Top, bottom, left, right; bottom and right are exclusive and may exceed the image."""


FLIP_CODES = {'horizontal': 1, 'vertical': 0, 'diagonal': -1}
"""Flip codes of OpenCV."""

Size = tuple[int, int]
"""Width and height, in OpenCV's order."""


def dominated(labels: np.ndarray, max_ratio: float, ignore_index: int = IGNORE_INDEX) -> bool:
    """Return whether one class covers ``max_ratio`` of the labelled pixels or more, or is the only class.

    Args:
        labels: Non-negative integers of shape HxW.
        max_ratio: Share of the pixels whose label is not ``ignore_index``.
        ignore_index: Label of ignored pixels.
    """
    if labels.dtype != np.uint8 or labels.size >= EXACT_IN_FLOAT32:
        counts: np.ndarray = np.bincount(labels.ravel())
    elif (guess := _guess_dominated(labels, max_ratio, ignore_index)) is not None:
        return guess
    else:
        counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()  # faster than bincount
    if ignore_index < len(counts):
        counts[ignore_index] = 0
    return bool(np.count_nonzero(counts) < 2 or counts.max() / counts.sum() >= max_ratio)


def _guess_dominated(labels: np.ndarray, max_ratio: float, ignore_index: int) -> bool | None:
    """Try to compute :func:`dominated` from the number of pixels below, equal to and above one label.

    The label is the median of a sample of the pixels, so that neither side is likely to dominate. Returns
    None if the counts do not suffice.
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
    """Crop the same random window from the image and every map in ``seg_fields``.

    A side shorter than the window is not cropped, so the result may be smaller than ``crop_size``. The
    results are views. Writes ``img``, ``img_shape`` and the maps.

    Draws a row offset, then a column offset, with ``np.random.randint``, even if only one offset is
    possible. With ``cat_max_ratio`` below 1, a window that is :func:`dominated` is redrawn up to ten times;
    the last one is used in any case.

    Args:
        crop_size: (height, width), or one number for both.
        cat_max_ratio: Maximum share of one class in the labelled pixels of the window.
        ignore_index: Label of ignored pixels; None takes that of the data set.
    """

    def __init__(
        self,
        crop_size: int | Sequence[int],
        cat_max_ratio: float = 1.0,
        *,
        ignore_index: int | None = None,
    ) -> None:
        sides = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(f'crop_size must be a positive integer or (height, width), not {crop_size!r}')
        if not 0 < cat_max_ratio <= 1:
            raise ValueError(f'cat_max_ratio must be above 0 and at most 1, not {cat_max_ratio}')
        self.crop_size = sides
        self.cat_max_ratio = cat_max_ratio
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        image = results['img']
        for name in results.get('seg_fields', []):
            if results[name].shape[:2] != image.shape[:2]:
                raise ValueError(
                    f'{results.get("img_path")} has size {image.shape[:2]} (height, width), but its {name} '
                    f'has size {results[name].shape[:2]}: put LoadAnnotations before the resizing transforms'
                )
        ignore_index = results.get('ignore_index', IGNORE_INDEX)
        top, bottom, left, right = self.choose_box(image.shape[:2], results.get('gt_seg_map'), ignore_index)
        results['img'] = image[top:bottom, left:right]
        for name in results.get('seg_fields', []):
            results[name] = results[name][top:bottom, left:right]
        results['img_shape'] = results['img'].shape[:2]
        return results

    @cache_randomness
    def choose_box(
        self, size: tuple[int, int], labels: np.ndarray | None = None, ignore_index: int = IGNORE_INDEX
    ) -> Box:
        """Draw a window.

        Args:
            size: (height, width) of the image.
            labels: Its label map; required if ``cat_max_ratio`` is below 1.
            ignore_index: Label of ignored pixels, unless the transform has its own.
        """
        look = None if labels is None else lambda box: labels[box[0] : box[1], box[2] : box[3]]
        return self.choose_window(size, look, ignore_index)[0]

    def choose_window(
        self,
        size: tuple[int, int],
        look: Callable[[Box], np.ndarray] | None,
        ignore_index: int = IGNORE_INDEX,
    ) -> tuple[Box, np.ndarray | None]:
        """Draw a window; return it and its labels.

        Args:
            size: (height, width) of the image.
            look: Returns the labels in a window; required if ``cat_max_ratio`` is below 1.
            ignore_index: Label of ignored pixels, unless the transform has its own.
        """
        if self.ignore_index is not None:
            ignore_index = self.ignore_index
        if look is None and self.cat_max_ratio < 1:
            raise ValueError('RandomCrop with cat_max_ratio below 1 requires LoadAnnotations before it')
        box = self._draw_box(*size)
        if look is None:
            return box, None
        window = look(box)
        if self.cat_max_ratio == 1:
            return box, window
        for _ in range(CROP_TRIES):
            if not dominated(window, self.cat_max_ratio, ignore_index):
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
class RandomResizeByRatio(RandomResize):
    """Resize the image and its maps by a random ratio, keeping the aspect ratio.

    ``RandomResize`` multiplies a fixed scale; this transform multiplies the size of the image, as
    ``dataset/semi.py`` of UniMatch V2 does (arXiv 2410.10777).

    Args:
        ratio_range: Smallest and largest ratio; the ratio is uniform between them.
        interpolation: Interpolation mode of the image, as in mmcv.
    """

    def __init__(self, ratio_range: tuple[float, float], interpolation: str = 'bilinear') -> None:
        low, high = ratio_range
        if not 0 < low <= high:
            raise ValueError(f'ratio_range={tuple(ratio_range)} must be (smallest, largest), both above 0')
        super().__init__((1, 1), (low, high), keep_ratio=True, interpolation=interpolation)

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        self.scale = (width, height)
        return super().transform(results)


@TRANSFORMS.register_module()
class ResizeToMultiple(BaseTransform):
    """Resize the image and every map in ``seg_fields`` so that each side is a multiple of ``size_divisor``.

    Each side is rounded up separately, so the aspect ratio may change slightly. Writes ``img``,
    ``img_shape``, ``pad_shape`` and the maps, which use nearest-neighbour interpolation.

    Args:
        size_divisor: One number for both sides or, as in mmcv, (width, height).
        interpolation: Interpolation mode of the image, as in mmcv; None means 'bilinear'.
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


def resize_corner(image: np.ndarray, size: Size, bottom: int, right: int) -> np.ndarray:
    """Return exactly ``cv2.resize(image, size)[:bottom, :right]``, resizing only the needed part.

    OpenCV computes positions from the top left corner. The image may therefore be cropped at the bottom and
    right, but not at the top or left, which would change the phase of the interpolation.

    Args:
        image: HxW or HxWxC.
        size: (width, height) of the complete image after resizing.
        bottom: Number of rows of the result; at most the height.
        right: Number of columns of the result; at most the width.
    """
    height, width = image.shape[:2]
    fx, fy = size[0] / width, size[1] / height
    # Two more, because OpenCV rounds the size of the result and reads one pixel ahead.
    rows, columns = min(height, math.ceil(bottom / fy) + 2), min(width, math.ceil(right / fx) + 2)
    # OpenCV copies an image if its size in pixels does not change, whatever the scale.
    if (round(columns * fx), round(rows * fy)) == (columns, rows):
        return cv2.resize(image, size)[:bottom, :right]
    return cv2.resize(image[:rows, :columns], None, fx=fx, fy=fy)[:bottom, :right]


def resize_labels(labels: np.ndarray, size: Size, box: Box) -> np.ndarray:
    """Return exactly a window of ``cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)``.

    Selects rows with the arithmetic of OpenCV and resizes each row of the window once.

    Args:
        labels: HxW.
        size: (width, height) of the complete map after resizing.
        box: Window in the resized map; may exceed it.
    """
    height, width = labels.shape
    top, bottom, left, right = box
    rows = np.arange(top, min(bottom, size[1])) * (1 / (size[1] / height))
    rows = np.minimum(rows.astype(np.intp), height - 1)
    right = min(right, size[0])
    if size[1] <= height:
        return _stretch_rows(labels[rows], size[0], right)[:, left:]
    return _stretch_rows(labels[rows[0] : rows[-1] + 1], size[0], right)[:, left:].take(
        rows - rows[0], axis=0
    )


def _stretch_rows(labels: np.ndarray, width: int, right: int) -> np.ndarray:
    """Resize to ``width`` columns by nearest neighbour; return the columns before ``right``."""
    fx = width / labels.shape[1]
    columns = min(labels.shape[1], math.ceil(right / fx) + 1)  # one more: OpenCV rounds the width
    return cv2.resize(labels[:, :columns], None, fx=fx, fy=1, interpolation=cv2.INTER_NEAREST)[:, :right]


RESIZES = (Resize, mmcv.transforms.Resize)
FUSED = ((RandomResize, RandomResizeByRatio), (RandomCrop,), (RandomFlip, mmcv.transforms.RandomFlip))
"""Classes of the three steps that :class:`ResizeCropFlip` replaces."""


class ResizeCropFlip(BaseTransform):
    """``RandomResize`` or ``RandomResizeByRatio``, ``RandomCrop`` and ``RandomFlip`` in one faster step.

    Draws the same random numbers and returns the same pixels, labels and metainfo, but does not resize most
    of the pixels that the crop discards. Inserted by :func:`fuse`.

    Args:
        resize: mmcv's transform, bilinear, with the OpenCV backend.
        crop: The crop.
        flip: mmcv's transform, without ``swap_seg_labels``.
    """

    def __init__(self, resize: RandomResize, crop: RandomCrop, flip: mmcv.transforms.RandomFlip) -> None:
        self.resize = resize
        self.crop = crop
        self.flip = flip
        self._directions, self._cumulated = _flip_chances(flip)

    @staticmethod
    def fits(steps: Sequence[Callable]) -> bool:
        """Return whether this class can replace the steps."""
        if len(steps) != 3 or not all(type(step) in kinds for step, kinds in zip(steps, FUSED, strict=True)):
            return False
        resize: Any = steps[0]
        flip: Any = steps[2]
        plain = type(resize.resize) in RESIZES and resize.resize.backend == 'cv2'
        return plain and resize.resize.interpolation == 'bilinear' and flip.swap_seg_labels is None

    def transform(self, results: dict) -> dict:
        if not self._is_plain(results):
            for step in (self.resize, self.crop, self.flip):
                results = step(results)
            return results
        size = self._draw_size(results)
        labels = results.get('gt_seg_map')
        look = None if labels is None else lambda box: resize_labels(labels, size, box)
        ignore_index = results.get('ignore_index', IGNORE_INDEX)
        (top, bottom, left, right), window = self.crop.choose_window(size[::-1], look, ignore_index)
        image = resize_corner(results['img'], size, min(bottom, size[1]), min(right, size[0]))
        # Equals np.random.choice, but faster.
        direction = self._directions[self._cumulated.searchsorted(np.random.random_sample(), side='right')]
        results['img'] = _flipped(image[top:, left:], direction)
        if window is not None:
            results['gt_seg_map'] = _flipped(window, direction)
        results['img_shape'] = results['img'].shape[:2]
        results.update(flip=direction is not None, flip_direction=direction)
        return results

    @staticmethod
    def _is_plain(results: dict) -> bool:
        """Return whether only the image and at most one label map of the same size must be resized."""
        image, labels = results['img'], results.get('gt_seg_map')
        others = any(results.get(name) is not None for name in ('gt_bboxes', 'gt_keypoints'))
        fits = labels is None or (labels.ndim == 2 and labels.shape == image.shape[:2])
        fields = [] if labels is None else ['gt_seg_map']
        return not others and fits and list(results.get('seg_fields', [])) == fields

    def _draw_size(self, results: dict) -> Size:
        """Draw the size after resizing, and write the same metainfo as mmcv.

        Raises:
            BadSampleError: If a side would be shorter than one pixel.
        """
        height, width = results['img'].shape[:2]
        if isinstance(self.resize, RandomResizeByRatio):
            self.resize.scale = (width, height)
        results['scale'] = scale = self.resize._random_scale()
        keep_ratio = self.resize.resize.keep_ratio
        size = mmcv.rescale_size((width, height), scale) if keep_ratio else scale
        if min(size) < 1:
            raise BadSampleError(f'image {results.get("img_path")}: {TOO_NARROW}', 'image too narrow')
        results.update(scale_factor=(size[0] / width, size[1] / height), keep_ratio=keep_ratio)
        return size

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.resize}, {self.crop}, {self.flip})'


def _flip_chances(flip: mmcv.transforms.RandomFlip) -> tuple[list[str | None], np.ndarray]:
    """Return mmcv's flip directions (None for no flip) and their cumulative probabilities."""
    directions = [flip.direction] if isinstance(flip.direction, str) else list(flip.direction)
    chances = flip.prob if isinstance(flip.prob, list) else [flip.prob / len(directions)] * len(directions)
    rest = 1.0 - flip.prob if isinstance(flip.prob, float) else 1 - sum(chances)
    cumulated = np.cumsum([*chances, rest])
    return [*directions, None], cumulated / cumulated[-1]


def _flipped(pixels: np.ndarray, direction: str | None) -> np.ndarray:
    return pixels if direction is None else cv2.flip(pixels, FLIP_CODES[direction])


def fuse(steps: Sequence[Callable]) -> list[Callable]:
    """Replace three consecutive steps with :class:`ResizeCropFlip` where possible."""
    fused: list[Any] = []
    for step in steps:
        fused.append(step)
        if ResizeCropFlip.fits(fused[-3:]):
            fused[-3:] = [ResizeCropFlip(*fused[-3:])]
    return fused
