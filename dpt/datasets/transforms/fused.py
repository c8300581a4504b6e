"""Resize, crop and flip in one go: same draws and pixels, without most of those that the crop throws away."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, RandomFlip, RandomResize, Resize

from dpt.datasets.bad_sample import TOO_NARROW, BadSampleError
from dpt.datasets.transforms.geometry import Box, RandomCrop

FLIP_CODES = {'horizontal': 1, 'vertical': 0, 'diagonal': -1}
"""OpenCV's number of each direction."""

Size = tuple[int, int]
"""Width and height, in OpenCV's order."""


def resize_corner(image: np.ndarray, size: Size, bottom: int, right: int) -> np.ndarray:
    """``cv2.resize(image, size)[:bottom, :right]``, bit for bit, from the part of the image that it shows.

    OpenCV places pixels by their distance from the top left corner, so what lies beyond can be left away, but
    nothing before: another origin would change the phase of the interpolation.

    Args:
        image: HxW or HxWxC.
        size: (width, height) of the whole image after resizing.
        bottom: Rows of the result; at most the height.
        right: Columns of the result; at most the width.
    """
    height, width = image.shape[:2]
    fx, fy = size[0] / width, size[1] / height
    # Two more, since OpenCV rounds the size of what it makes and reads one pixel ahead.
    rows, columns = min(height, math.ceil(bottom / fy) + 2), min(width, math.ceil(right / fx) + 2)
    # OpenCV copies what keeps its size in pixels, whatever the scale.
    if (round(columns * fx), round(rows * fy)) == (columns, rows):
        return cv2.resize(image, size)[:bottom, :right]
    return cv2.resize(image[:rows, :columns], None, fx=fx, fy=fy)[:bottom, :right]


def resize_labels(labels: np.ndarray, size: Size, box: Box) -> np.ndarray:
    """Return the window of ``cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)``, bit for bit.

    Rows are picked by OpenCV's own arithmetic; each row that the window shows is stretched once.

    Args:
        labels: HxW.
        size: (width, height) of the whole map after resizing.
        box: Window in the resized map; it may end outside.
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
    """Resize the width to ``width`` by nearest neighbour, and keep what is left of ``right``."""
    fx = width / labels.shape[1]
    columns = min(labels.shape[1], math.ceil(right / fx) + 1)  # one more: OpenCV rounds the width it makes
    return cv2.resize(labels[:, :columns], None, fx=fx, fy=1, interpolation=cv2.INTER_NEAREST)[:, :right]


class ResizeCropFlip(BaseTransform):
    """What ``RandomResize``, ``RandomCrop`` and ``RandomFlip`` do one after the other, in less time.

    :func:`fuse` puts it where these three stand. Draws, pixels, labels and metainfo are theirs.

    Args:
        resize: Of mmcv, bilinear, by OpenCV.
        crop: Ours.
        flip: Of mmcv, without labels to swap.
    """

    def __init__(self, resize: RandomResize, crop: RandomCrop, flip: RandomFlip) -> None:
        self.resize = resize
        self.crop = crop
        self.flip = flip
        self._directions, self._cumulated = _flip_chances(flip)

    @staticmethod
    def fits(steps: Sequence[Callable]) -> bool:
        """Whether the steps are three that this class can stand for."""
        if [type(step) for step in steps] != [RandomResize, RandomCrop, RandomFlip]:
            return False
        resize: Any = steps[0]
        flip: Any = steps[2]
        plain = type(resize.resize) is Resize and resize.resize.backend == 'cv2'
        return plain and resize.resize.interpolation == 'bilinear' and flip.swap_seg_labels is None

    def transform(self, results: dict) -> dict:
        if not self._is_plain(results):
            for step in (self.resize, self.crop, self.flip):
                results = step(results)
            return results
        size = self._draw_size(results)
        labels = results.get('gt_seg_map')
        look = None if labels is None else lambda box: resize_labels(labels, size, box)
        (top, bottom, left, right), window = self.crop.choose_window(size[::-1], look)
        image = resize_corner(results['img'], size, min(bottom, size[1]), min(right, size[0]))
        # As np.random.choice draws, in a tenth of its time.
        direction = self._directions[self._cumulated.searchsorted(np.random.random_sample(), side='right')]
        results['img'] = _flipped(image[top:, left:], direction)
        if window is not None:
            results['gt_seg_map'] = _flipped(window, direction)
        results['img_shape'] = results['img'].shape[:2]
        results.update(flip=direction is not None, flip_direction=direction)
        return results

    @staticmethod
    def _is_plain(results: dict) -> bool:
        """Whether there is an image and at most one label map, of its size, and nothing else to resize."""
        image, labels = results['img'], results.get('gt_seg_map')
        others = any(results.get(name) is not None for name in ('gt_bboxes', 'gt_keypoints'))
        fits = labels is None or (labels.ndim == 2 and labels.shape == image.shape[:2])
        fields = [] if labels is None else ['gt_seg_map']
        return not others and fits and list(results.get('seg_fields', [])) == fields

    def _draw_size(self, results: dict) -> Size:
        """Draw the size to resize to, and note what mmcv notes.

        Raises:
            BadSampleError: A side would have no pixel.
        """
        height, width = results['img'].shape[:2]
        results['scale'] = scale = self.resize._random_scale()
        keep_ratio = self.resize.resize.keep_ratio
        size = mmcv.rescale_size((width, height), scale) if keep_ratio else scale
        if min(size) < 1:
            raise BadSampleError(f'image {results.get("img_path")}: {TOO_NARROW}', 'image too narrow')
        results.update(scale_factor=(size[0] / width, size[1] / height), keep_ratio=keep_ratio)
        return size

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.resize}, {self.crop}, {self.flip})'


def _flip_chances(flip: RandomFlip) -> tuple[list[str | None], np.ndarray]:
    """Directions, None for as it is, and their cumulated chances, as mmcv hands them to np.random.choice."""
    directions = [flip.direction] if isinstance(flip.direction, str) else list(flip.direction)
    chances = flip.prob if isinstance(flip.prob, list) else [flip.prob / len(directions)] * len(directions)
    rest = 1.0 - flip.prob if isinstance(flip.prob, float) else 1 - sum(chances)
    cumulated = np.cumsum([*chances, rest])
    return [*directions, None], cumulated / cumulated[-1]


def _flipped(pixels: np.ndarray, direction: str | None) -> np.ndarray:
    return pixels if direction is None else cv2.flip(pixels, FLIP_CODES[direction])


def fuse(steps: Sequence[Callable]) -> list[Callable]:
    """Put :class:`ResizeCropFlip` wherever three consecutive steps are those that it stands for."""
    fused: list[Any] = []
    for step in steps:
        fused.append(step)
        if ResizeCropFlip.fits(fused[-3:]):
            fused[-3:] = [ResizeCropFlip(*fused[-3:])]
    return fused
