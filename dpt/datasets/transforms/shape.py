"""Rotate, cut out and resize by the shorter side, image and label maps together."""

import math
from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from dpt.datasets.transforms.maps import Resize, fill_value
from dpt.registry import TRANSFORMS
from dpt.structures import IGNORE_INDEX


def _check_probability(prob: float) -> None:
    if not 0 <= prob <= 1:
        raise ValueError(f'prob={prob} must be from 0 to 1')


@TRANSFORMS.register_module()
class RandomRotate(BaseTransform):
    """Rotate the image and every map in ``seg_fields`` by the same random angle.

    Draws one number for ``prob``, then the angle, in any case. Writes ``img``, ``img_shape`` and the maps.

    Args:
        prob: Probability of rotating.
        degree: Range (smallest, largest) of the angle in degrees, clockwise; one number means both ways.
        pad_val: Value of new pixels of the image, one or one per channel. MMSegmentation gives a single value
            to the first channel only.
        seg_pad_val: Label of new pixels; None takes the ``ignore_index`` of the data set. New pixels of depth
            are 0.
        center: (x, y) of the fixed point in pixels; None means the centre of the image.
        auto_bound: Whether to enlarge the image so that it contains all of the rotated image.
    """

    def __init__(
        self,
        prob: float,
        degree: float | Sequence[float],
        pad_val: float | Sequence[float] = 0,
        seg_pad_val: int | None = None,
        *,
        center: Sequence[float] | None = None,
        auto_bound: bool = False,
    ) -> None:
        _check_probability(prob)
        degrees = sorted((-degree, degree) if isinstance(degree, (int, float)) else degree)
        if len(degrees) != 2:
            raise ValueError(f'degree={degree!r} must be a number or (smallest, largest)')
        if center is not None and auto_bound:
            raise ValueError('center and auto_bound exclude each other')
        self.prob = prob
        self.degree = (degrees[0], degrees[1])
        self.pad_val = pad_val
        self.seg_pad_val = seg_pad_val
        self.center = None if center is None else tuple(center)
        self.auto_bound = auto_bound

    @cache_randomness
    def _draw(self) -> tuple[bool, float]:
        low, high = self.degree
        return bool(np.random.rand() < self.prob), float(np.random.uniform(low, high))

    def transform(self, results: dict) -> dict:
        rotate, angle = self._draw()
        if not rotate:
            return results
        options = dict(angle=angle, center=self.center, auto_bound=self.auto_bound)
        # OpenCV would pad only the first channel with a single number.
        padding = (self.pad_val,) * 4 if isinstance(self.pad_val, (int, float)) else tuple(self.pad_val)
        results['img'] = mmcv.imrotate(results['img'], border_value=padding, **options)
        label = self.seg_pad_val
        if label is None:
            label = results.get('ignore_index', IGNORE_INDEX)
        for name in results.get('seg_fields', []):
            labels = results[name]
            # OpenCV does not rotate int32; float64 holds every label exactly.
            wide = labels if labels.dtype in (np.uint8, np.float32) else labels.astype(np.float64)
            border = fill_value(name, label)
            turned = mmcv.imrotate(wide, border_value=border, interpolation='nearest', **options)
            results[name] = turned.astype(labels.dtype)
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(prob={self.prob}, degree={self.degree}, pad_val={self.pad_val}, '
            f'seg_pad_val={self.seg_pad_val}, center={self.center}, auto_bound={self.auto_bound})'
        )


@TRANSFORMS.register_module()
class RandomCutOut(BaseTransform):
    """Fill random rectangles of the image (DeVries and Taylor 2017, arXiv 1708.04552).

    Draws one number for ``prob``, then the number of holes, then for each hole its left and top side and its
    shape. Writes ``img`` and, with ``seg_fill_in``, every map in ``seg_fields``.

    Args:
        prob: Probability of cutting out.
        n_holes: Number of holes, or (smallest, largest).
        cutout_shape: (width, height) of a hole in pixels, or a list of them to choose from.
        cutout_ratio: The same as shares of the sides of the image; excludes ``cutout_shape``.
        fill_in: Value of the pixels in a hole, one number or one per channel.
        seg_fill_in: Label of the pixels in a hole, whose depth becomes 0; None keeps labels and depth.
    """

    def __init__(
        self,
        prob: float,
        n_holes: int | Sequence[int],
        cutout_shape: Sequence | None = None,
        cutout_ratio: Sequence | None = None,
        *,
        fill_in: float | Sequence[float] = 0,
        seg_fill_in: int | None = None,
    ) -> None:
        _check_probability(prob)
        holes = (n_holes, n_holes) if isinstance(n_holes, int) else tuple(n_holes)
        if len(holes) != 2 or not 0 <= holes[0] <= holes[1]:
            raise ValueError(f'n_holes={n_holes!r} must be a number or (smallest, largest)')
        given = cutout_shape if cutout_ratio is None else cutout_ratio
        if given is None or (cutout_shape is not None and cutout_ratio is not None):
            raise ValueError('RandomCutOut needs cutout_shape or cutout_ratio, and not both')
        single = len(given) == 2 and all(isinstance(side, (int, float)) for side in given)
        self.prob = prob
        self.n_holes = holes
        self.with_ratio = cutout_ratio is not None
        self.candidates = [tuple(one) for one in ([given] if single else given)]
        self.fill_in = fill_in if isinstance(fill_in, (int, float)) else tuple(fill_in)
        self.seg_fill_in = seg_fill_in

    @cache_randomness
    def _draw(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Draw the left and top side of each hole, and the index of its shape."""
        if np.random.rand() >= self.prob:
            return []
        count = np.random.randint(self.n_holes[0], self.n_holes[1] + 1)
        bounds = (width, height, len(self.candidates))
        return [tuple(int(np.random.randint(0, bound)) for bound in bounds) for _ in range(count)]  # type: ignore[misc]

    def transform(self, results: dict) -> dict:
        height, width, *channels = results['img'].shape
        if isinstance(self.fill_in, tuple) and [len(self.fill_in)] != (channels or [1]):
            raise ValueError(
                f'RandomCutOut: fill_in={self.fill_in} must be one number or one per channel; '
                f'{results.get("img_path")} has {(channels or [1])[0]} channels'
            )
        names = ['img', *(results.get('seg_fields', []) if self.seg_fill_in is not None else [])]
        holes = self._draw(height, width)
        if holes:
            results.update({name: results[name].copy() for name in names})
        for left, top, index in holes:
            across, down = self.candidates[index]
            if self.with_ratio:
                across, down = int(across * width), int(down * height)
            for name in names:
                value = self.fill_in if name == 'img' else fill_value(name, self.seg_fill_in or 0)
                results[name][top : top + down, left : left + across] = value
        return results

    def __repr__(self) -> str:
        kind = 'cutout_ratio' if self.with_ratio else 'cutout_shape'
        return (
            f'{type(self).__name__}(prob={self.prob}, n_holes={self.n_holes}, {kind}={self.candidates}, '
            f'fill_in={self.fill_in}, seg_fill_in={self.seg_fill_in})'
        )


@TRANSFORMS.register_module()
class ResizeShortestEdge(BaseTransform):
    """Resize the shorter side of the image and its labels to ``scale``, keeping the aspect ratio.

    Writes what ``Resize`` writes, with which it resizes.

    Args:
        scale: Length of the shorter side in pixels; of several, the smallest.
        max_size: Largest length of the longer side, which takes precedence.
    """

    def __init__(self, scale: int | Sequence[int], max_size: int) -> None:
        self.scale = scale  # mmcv's RandomChoiceResize gives 0 here, and sets this attribute for each image
        self.max_size = max_size
        if max_size < 1:
            raise ValueError(f'max_size={max_size!r} must be at least 1')

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        shorter = self.scale if isinstance(self.scale, int) else min(self.scale)
        longer = shorter / min(height, width) * max(height, width)
        shrink = min(1.0, self.max_size / longer)
        bounds = int(longer * shrink + 0.5), int(shorter * shrink + 0.5)
        return Resize(scale=bounds, keep_ratio=True).transform(results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale}, max_size={self.max_size})'


@TRANSFORMS.register_module()
class ResizeToBound(BaseTransform):
    """Resize to about a given size, keeping the aspect ratio, with sides that are multiples of a number.

    The resizing of MiDaS, DPT and Depth Anything (class ``Resize`` of ``midas/transforms.py``). Writes what
    ``Resize`` writes.

    Args:
        scale: (width, height), or one number for both.
        method: ``'lower_bound'``: no side is shorter than ``scale`` (Depth Anything); ``'upper_bound'``: none
            is longer; ``'minimal'``: the side that changes less gets its length (MiDaS, DPT).
        size_divisor: Sides are rounded to the nearest multiple of this, within the bound.
        interpolation: Interpolation mode of the image, as in mmcv.
    """

    def __init__(
        self,
        scale: int | Sequence[int],
        method: str = 'lower_bound',
        size_divisor: int = 1,
        *,
        interpolation: str = 'bicubic',
    ) -> None:
        if method not in ('lower_bound', 'upper_bound', 'minimal'):
            raise ValueError(f"method={method!r} must be 'lower_bound', 'upper_bound' or 'minimal'")
        self.scale = (scale, scale) if isinstance(scale, int) else (scale[0], scale[1])
        self.method = method
        self.size_divisor = size_divisor
        self.interpolation = interpolation

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        factors = (self.scale[0] / width, self.scale[1] / height)
        if self.method == 'minimal':
            factor = min(factors[::-1], key=lambda factor: abs(1 - factor))
        else:
            factor = max(factors) if self.method == 'lower_bound' else min(factors)
        sides = tuple(
            self._round(factor * side, bound) for side, bound in zip((width, height), self.scale, strict=True)
        )
        return Resize(scale=sides, interpolation=self.interpolation).transform(results)

    def _round(self, length: float, bound: int) -> int:
        divisor = self.size_divisor
        rounded = round(length / divisor) * divisor
        if self.method == 'lower_bound' and rounded < bound:
            rounded = math.ceil(length / divisor) * divisor
        if self.method == 'upper_bound' and rounded > bound:
            rounded = math.floor(length / divisor) * divisor
        return max(rounded, divisor)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, method={self.method!r}, '
            f'size_divisor={self.size_divisor}, interpolation={self.interpolation!r})'
        )
