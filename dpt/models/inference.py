"""From images to logits, and from logits back to the image they belong to: pure functions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dpt.models.layers import Rows, resized_height, resized_width

Size = tuple[int, int]
FLIP_DIMS = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}


def resize_logits(logits: Tensor, size: Size) -> Tensor:
    """Resize BxKxHxW logits to ``size`` (height, width), bilinear with align_corners=False."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode='bilinear', align_corners=False)


def restored_rows(
    rows: Rows,
    size: Size,
    *,
    input_shape: Size,
    img_shape: Size,
    ori_shape: Size,
    flip_direction: str | None = None,
) -> Rows:
    """Bring one image's logits back to the image as it was read from disk, a band of rows at a time.

    They are resized to the network's input, the padding at the bottom and right is cropped, the flip undone,
    and the rest resized to the original size. All of that is done to the rows before it is done to the
    columns: equal up to rounding, and where the input is larger than the original no band is as large as it.

    Args:
        rows: Logits of shape 1xKxHxW.
        size: Their (height, width).
        input_shape: Size of the network's input, padding included.
        img_shape: Size of the image in that input, without padding.
        ori_shape: Size of the image on disk.
        flip_direction: ``'horizontal'``, ``'vertical'`` or ``'diagonal'`` if the input was flipped.

    Returns:
        Float32 logits at ``ori_shape``.
    """
    dims = () if flip_direction is None else FLIP_DIMS[flip_direction]
    height, width = img_shape
    at_input = resized_height(lambda top, bottom: rows(top, bottom).float(), size[0], input_shape[0])

    def upright(top: int, bottom: int) -> Tensor:
        return at_input(height - bottom, height - top).flip(-2) if -2 in dims else at_input(top, bottom)

    at_original = resized_height(upright, height, ori_shape[0])

    def band(top: int, bottom: int) -> Tensor:
        x = resized_width(at_original(top, bottom), input_shape[1])[..., :width]
        return resized_width(x.flip(-1) if -1 in dims else x, ori_shape[1])

    return band


def label_map(scores: Tensor) -> Tensor:
    """Return the class of the largest of KxHxW scores, of shape 1xHxW, in the smallest integer type."""
    labels = scores.argmax(dim=0, keepdim=True)
    return labels.to(torch.uint8) if scores.shape[0] <= 256 else labels
