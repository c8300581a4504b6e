"""Annotations and predictions of an image, and the label of ignored pixels."""

from typing import Any

import torch
from mmengine.structures import BaseDataElement, PixelData

IGNORE_INDEX = 255
"""Default label of pixels that the loss and the metric ignore; the data set may define another one."""


def _pixel_data(name: str) -> Any:
    """Return a property that stores a PixelData in a field, as mmengine's data elements do."""

    def put(sample: BaseDataElement, value: PixelData) -> None:
        sample.set_field(value, name, dtype=PixelData)

    return property(lambda sample: getattr(sample, name), put, lambda sample: delattr(sample, name))


class SegDataSample(BaseDataElement):
    """One image's annotations, predictions and metainfo.

    Data fields, each a :class:`~mmengine.structures.PixelData`:

    - ``gt_sem_seg.data``: labels of shape 1xHxW, uint8 or int64, at the network's input size.
    - ``pred_sem_seg.data``: predicted labels of shape 1xHxW, at the original image size.
    - ``seg_logits.data``: float logits of shape KxHxW at the original image size, if requested.
    - ``gt_depth_map.data``: depth of shape 1xHxW, float32, in the unit of the data set (metres in published
      ones) at the network's input size; 0 where nothing was measured.
    - ``pred_depth_map.data``: predicted depth of shape 1xHxW, float32, at the original image size.

    Metainfo written by ``PackSegInputs``, with sizes as (height, width): ``img_path``, ``seg_map_path``,
    ``depth_map_path``, ``ori_shape`` (as read from disk), ``img_shape`` (after the transforms),
    ``pad_shape``, ``scale_factor`` (width, height), ``flip``, ``flip_direction``, ``reduce_zero_label``,
    ``ignore_index``. ``relative_depth``, written by models, says whether ``pred_depth_map`` is inverse depth
    up to an unknown scale and shift.
    """

    def pin_memory(self) -> 'SegDataSample':
        """Move all pixel data to pinned memory, so that copies to a GPU are asynchronous.

        Called by torch's data loaders if ``pin_memory=True``.
        """
        for pixels in self.values():
            if isinstance(pixels, PixelData):
                for name, value in pixels.items():
                    if isinstance(value, torch.Tensor):
                        setattr(pixels, name, value.pin_memory())
        return self

    gt_sem_seg = _pixel_data('_gt_sem_seg')
    pred_sem_seg = _pixel_data('_pred_sem_seg')
    seg_logits = _pixel_data('_seg_logits')
    gt_depth_map = _pixel_data('_gt_depth_map')
    pred_depth_map = _pixel_data('_pred_depth_map')
