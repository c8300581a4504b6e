"""From images to logits, and from logits back to the image they belong to: pure functions."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dpt.models.layers import Rows, resized

Size = tuple[int, int]
FLIP_DIMS = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}


def resize_logits(logits: Tensor, size: Size) -> Tensor:
    """Resize BxKxHxW logits to ``size`` (height, width), bilinear with align_corners=False."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode='bilinear', align_corners=False)


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows of ``crop`` pixels begin so that they cover ``length``; the last one ends flush."""
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, length) - crop, 0) for i in range(count)]


def slide_logits(model: Callable[[Tensor], Tensor], images: Tensor, crop_size: Size, stride: Size) -> Tensor:
    """Average the logits of overlapping windows.

    Args:
        model: From images of shape BxCxHxW to logits of shape BxKxhxw of any spatial size.
        images: Tensor of shape BxCxHxW.
        crop_size: Window (height, width); where it exceeds the image the window is the image.
        stride: Step (vertical, horizontal); at most the window, else pixels would stay without logits.

    Returns:
        Logits of shape BxKxHxW at the size of the images.

    Raises:
        ValueError: If the stride leaves gaps.
    """
    if any(s > c or s < 1 for s, c in zip(stride, crop_size, strict=True)):
        raise ValueError(f'test_cfg.stride={stride} must be from 1 to crop_size={crop_size}')
    height, width = images.shape[-2:]
    total, count = None, images.new_zeros(1, 1, height, width)
    for top in window_starts(height, crop_size[0], stride[0]):
        for left in window_starts(width, crop_size[1], stride[1]):
            window = (..., slice(top, top + crop_size[0]), slice(left, left + crop_size[1]))
            crop = images[window]
            logits = resize_logits(model(crop), (crop.shape[-2], crop.shape[-1]))
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[window] += logits
            count[window] += 1
    assert total is not None
    return total.div_(count)


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
    and the rest resized to the original size.

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
    at_input = resized(lambda top, bottom: rows(top, bottom).float(), size, input_shape)

    def upright(top: int, bottom: int) -> Tensor:
        if -2 in dims:
            top, bottom = height - bottom, height - top
        x = at_input(top, bottom)[..., :width]
        return x.flip(dims) if dims else x

    return resized(upright, img_shape, ori_shape)


def label_map(scores: Tensor) -> Tensor:
    """Return the class of the largest of KxHxW scores, of shape 1xHxW, in the smallest integer type."""
    labels = scores.argmax(dim=0, keepdim=True)
    return labels.to(torch.uint8) if scores.shape[0] <= 256 else labels
