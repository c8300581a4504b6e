"""Annotations and predictions of an image, and the label of ignored pixels."""

import torch
from mmengine.structures import BaseDataElement, PixelData

IGNORE_INDEX = 255
"""Default label of pixels that the loss and the metric ignore; the data set may define another one."""


class SegDataSample(BaseDataElement):
    """One image's annotations, predictions and metainfo.

    Data fields, each a :class:`~mmengine.structures.PixelData`:

    - ``gt_sem_seg.data``: labels of shape 1xHxW, uint8 or int64, at the network's input size.
    - ``pred_sem_seg.data``: predicted labels of shape 1xHxW, at the original image size.
    - ``seg_logits.data``: float logits of shape KxHxW at the original image size, if requested.

    Metainfo written by ``PackSegInputs``, with sizes as (height, width): ``img_path``, ``seg_map_path``,
    ``ori_shape`` (as read from disk), ``img_shape`` (after the transforms), ``pad_shape``, ``scale_factor``
    (width, height), ``flip``, ``flip_direction``, ``reduce_zero_label``, ``ignore_index``.
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

    def _set_pixels(self, name: str, value: PixelData) -> None:
        self.set_field(value, name, dtype=PixelData)

    @property
    def gt_sem_seg(self) -> PixelData:
        return self._gt_sem_seg

    @gt_sem_seg.setter
    def gt_sem_seg(self, value: PixelData) -> None:
        self._set_pixels('_gt_sem_seg', value)

    @gt_sem_seg.deleter
    def gt_sem_seg(self) -> None:
        del self._gt_sem_seg

    @property
    def pred_sem_seg(self) -> PixelData:
        return self._pred_sem_seg

    @pred_sem_seg.setter
    def pred_sem_seg(self, value: PixelData) -> None:
        self._set_pixels('_pred_sem_seg', value)

    @pred_sem_seg.deleter
    def pred_sem_seg(self) -> None:
        del self._pred_sem_seg

    @property
    def seg_logits(self) -> PixelData:
        return self._seg_logits

    @seg_logits.setter
    def seg_logits(self, value: PixelData) -> None:
        self._set_pixels('_seg_logits', value)

    @seg_logits.deleter
    def seg_logits(self) -> None:
        del self._seg_logits
