"""mmcv's transforms that move the image, extended to every map in ``seg_fields``.

mmcv moves ``gt_seg_map`` only. Depth and other maps would get out of step with the image.
"""

from collections.abc import Callable

import mmcv
import mmcv.transforms
import numpy as np

from dpt.registry import TRANSFORMS

DEPTH = 'gt_depth_map'
"""The map in ``seg_fields`` that contains depth, in which 0 means 'no measurement'."""


def fill_value(name: str, label: float) -> float:
    """Return the value of new pixels of a map in ``seg_fields``: ``label``, or 0 in depth."""
    return 0 if name == DEPTH else label


def _move(results: dict, change: Callable[[np.ndarray, str], np.ndarray]) -> None:
    """Apply a change to every map in ``seg_fields`` but ``gt_seg_map``, which mmcv moves."""
    for name in results.get('seg_fields', []):
        if name != 'gt_seg_map':
            results[name] = change(results[name], name)


@TRANSFORMS.register_module()
class Resize(mmcv.transforms.Resize):
    """Resize the image as mmcv's transform does, and every map in ``seg_fields`` by nearest neighbour.

    Depth keeps its numbers; :class:`ScaleDepth` changes them.
    """

    def _resize_seg(self, results: dict) -> None:
        super()._resize_seg(results)
        resize = mmcv.imrescale if self.keep_ratio else mmcv.imresize
        _move(results, lambda pixels, _: resize(pixels, results['scale'], interpolation='nearest'))


@TRANSFORMS.register_module()
class RandomFlip(mmcv.transforms.RandomFlip):
    """Flip the image as mmcv's transform does, and every map in ``seg_fields``."""

    def _flip(self, results: dict) -> None:
        super()._flip(results)
        _move(results, lambda pixels, _: mmcv.imflip(pixels, direction=results['flip_direction']))


@TRANSFORMS.register_module()
class Pad(mmcv.transforms.Pad):
    """Pad the image as mmcv's transform does, and every map in ``seg_fields``; depth is padded with 0."""

    def _pad_seg(self, results: dict) -> None:
        super()._pad_seg(results)
        label, shape = self.pad_val.get('seg', 255), results['pad_shape'][:2]

        def pad(pixels: np.ndarray, name: str) -> np.ndarray:
            # Depth repeated at the border would not be a measurement.
            mode = 'constant' if name == DEPTH else self.padding_mode
            return mmcv.impad(pixels, shape=shape, pad_val=fill_value(name, label), padding_mode=mode)

        _move(results, pad)


@TRANSFORMS.register_module()
class CenterCrop(mmcv.transforms.CenterCrop):
    """Crop the image as mmcv's transform does, and every map in ``seg_fields``."""

    def _crop_seg_map(self, results: dict, bboxes: np.ndarray) -> None:
        super()._crop_seg_map(results, bboxes)
        _move(results, lambda pixels, _: mmcv.imcrop(pixels, bboxes=bboxes))
