"""The last transform of a pipeline, which converts a sample to tensors for the model."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData

from dpt.datasets.labels import check_packed_labels
from dpt.registry import TRANSFORMS
from dpt.structures import SegDataSample

META_KEYS = (
    'img_path',
    'seg_map_path',
    'depth_map_path',
    'ori_shape',
    'img_shape',
    'pad_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'reduce_zero_label',
)
ALWAYS_PACKED = ('ori_shape', 'img_shape', 'flip', 'flip_direction', 'ignore_index', 'crop_box')
"""What restoring a prediction to the original image, the loss and the padding need."""


@TRANSFORMS.register_module()
class PackSegInputs(BaseTransform):
    """Pack a sample for the model.

    Returns ``inputs``, a contiguous tensor of shape CxHxW with the dtype of the image (C = 1 for a grey
    image), and ``data_samples``, a :class:`~dpt.structures.SegDataSample`. If the sample has labels, its
    ``gt_sem_seg.data`` has shape 1xHxW and dtype uint8, or int64 if the labels do not fit; if it has depth,
    its ``gt_depth_map.data`` has shape 1xHxW and dtype float32. The size of either may differ from that of
    the image, because test pipelines resize neither.

    Args:
        meta_keys: Keys to copy to the metainfo, if the sample has them, in addition to ``ALWAYS_PACKED``.

    Raises:
        ValueError: If a label is neither a class nor the void label of the data set, because a transform
            wrote it.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = tuple(dict.fromkeys((*meta_keys, *ALWAYS_PACKED)))

    def transform(self, results: dict) -> dict:
        packed: dict = {}
        if 'img' in results:
            packed['inputs'] = _to_tensor(results['img'])
        sample = SegDataSample()
        for key in self.meta_keys:
            if key in results:
                # set_metainfo is slow because of its deep copy.
                sample.set_field(results[key], key, field_type='metainfo')
        if 'gt_seg_map' in results:
            check_packed_labels(results)
            labels = _map_to_tensor(results['gt_seg_map'], 'labels', results.get('seg_map_path'))
            sample.gt_sem_seg = PixelData(data=labels if labels.dtype == torch.uint8 else labels.long())
        if 'gt_depth_map' in results:
            depth = _map_to_tensor(results['gt_depth_map'], 'depth', results.get('depth_map_path'))
            sample.gt_depth_map = PixelData(data=depth.float())
        packed['data_samples'] = sample
        return packed

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    if image.ndim == 2:
        image = np.expand_dims(image, -1)
    if image.dtype == np.uint8 and image.shape[2] == 3:
        planes = np.empty((3, *image.shape[:2]), np.uint8)
        cv2.split(image, list(planes))  # faster than a permuted copy
        return torch.from_numpy(planes)
    return torch.from_numpy(_own(image)).permute(2, 0, 1).contiguous()


def _own(pixels: np.ndarray) -> np.ndarray:
    """Copy the pixels of a flipped view, whose negative strides torch does not support."""
    # numpy considers a view of one column contiguous, whatever its strides.
    flipped = any(stride < 0 for stride in pixels.strides)
    return pixels.copy() if flipped else np.ascontiguousarray(pixels)


def _map_to_tensor(pixels: np.ndarray, what: str, path: str | None) -> torch.Tensor:
    """Return a map of shape HxW as a tensor of shape 1xHxW."""
    if pixels.ndim != 2:
        raise ValueError(f'{what} of {path or "the sample"} have shape {pixels.shape}: HxW was expected')
    return torch.from_numpy(_own(pixels))[None]
