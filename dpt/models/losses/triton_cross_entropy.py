"""Upsampling, cross-entropy and its gradient in two Triton kernels.

The reference is :func:`~dpt.models.losses.classwise.pixelwise_cross_entropy`. Neither kernel stores logits of
the size of the target: both compute the resized logits that they need from the four neighbours.

No GPU has run these kernels yet; Triton's interpreter has, on a CPU (``TRITON_INTERPRET=1``).
"""

import math
import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

PIXELS = 64
"""Pixels of a block: of the target in the forward pass, of the logits in the backward pass."""
CLASSES = 16
"""Classes of a block."""


@triton.jit
def _neighbours(position, coarse, fine):
    """Return the two coarse positions of a fine one, and the weight of the second (align_corners=False)."""
    source = tl.maximum((position + 0.5) * (coarse / fine) - 0.5, 0.0)
    first = tl.minimum(source.to(tl.int32), coarse - 1)
    return first, tl.minimum(first + 1, coarse - 1), source - first


@triton.jit
def _resized(base, stride_y, stride_x, y, x, h, w, height, width, classes, mask):
    """Return the resized logits at pixels (y, x) of shape Px1, for classes at offsets of shape 1xK."""
    top, bottom, down = _neighbours(y, h, height)
    left, right, across = _neighbours(x, w, width)
    corner = base + classes
    a = tl.load(corner + top * stride_y + left * stride_x, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(corner + top * stride_y + right * stride_x, mask=mask, other=0.0).to(tl.float32)
    c = tl.load(corner + bottom * stride_y + left * stride_x, mask=mask, other=0.0).to(tl.float32)
    d = tl.load(corner + bottom * stride_y + right * stride_x, mask=mask, other=0.0).to(tl.float32)
    return (1 - down) * ((1 - across) * a + across * b) + down * ((1 - across) * c + across * d)


@triton.jit
def _forward(
    logits, target, loss, log_sum, stride_b, stride_k, stride_y, stride_x, num_classes, h, w, height, width,
    pixels: tl.constexpr, classes: tl.constexpr,
):  # fmt: skip
    """Compute the loss and the log-sum-exp of a block of pixels."""
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * pixels + tl.arange(0, pixels)
    inside = pixel < height * width
    y, x = (pixel // width)[:, None], (pixel % width)[:, None]
    place = image * height * width + pixel
    label = tl.load(target + place, mask=inside, other=0)
    highest = tl.full((pixels,), float('-inf'), tl.float32)
    total = tl.zeros((pixels,), tl.float32)
    own = tl.zeros((pixels,), tl.float32)
    for start in range(0, num_classes, classes):
        k = start + tl.arange(0, classes)[None, :]
        mask = inside[:, None] & (k < num_classes)
        fine = _resized(
            logits + image * stride_b, stride_y, stride_x, y, x, h, w, height, width, k * stride_k, mask
        )
        own += tl.sum(tl.where(k == label[:, None], fine, 0.0), 1)
        fine = tl.where(k < num_classes, fine, float('-inf'))
        above = tl.maximum(highest, tl.max(fine, 1))
        total = total * tl.exp(highest - above) + tl.sum(tl.exp(fine - above[:, None]), 1)
        highest = above
    result = highest + tl.log(total)
    valid = (label >= 0) & (label < num_classes)
    tl.store(loss + place, tl.where(valid, result - own, float('nan')), mask=inside)
    tl.store(log_sum + place, result, mask=inside)


@triton.jit
def _backward(
    logits, target, log_sum, grad, out, stride_b, stride_k, stride_y, stride_x, num_classes, h, w,
    height, width, pixels: tl.constexpr, classes: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Sum the gradients of a block of logits over the pixels of the target that depend on them."""
    image = tl.program_id(2).to(tl.int64)
    cell = tl.program_id(0) * pixels + tl.arange(0, pixels)
    k = tl.program_id(1) * classes + tl.arange(0, classes)[None, :]
    row, column = (cell // w)[:, None], (cell % w)[:, None]
    inside = (cell < h * w)[:, None]
    # The first pixel whose source lies behind the row above, and the same for columns.
    first_y = ((row - 0.5) * (height / h) - 0.5).to(tl.int32)
    first_x = ((column - 0.5) * (width / w) - 0.5).to(tl.int32)
    total = tl.zeros((pixels, classes), tl.float32)
    for i in range(rows):
        y = first_y + i
        top, bottom, down = _neighbours(y, h, height)
        weight_y = tl.where(top == row, 1 - down, 0.0) + tl.where(bottom == row, down, 0.0)
        for j in range(columns):
            x = first_x + j
            left, right, across = _neighbours(x, w, width)
            weight_x = tl.where(left == column, 1 - across, 0.0) + tl.where(right == column, across, 0.0)
            used = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            place = image * height * width + y * width + x
            slope = weight_y * weight_x * tl.load(grad + place, mask=used, other=0.0)
            label = tl.load(target + place, mask=used, other=0)
            normaliser = tl.load(log_sum + place, mask=used, other=0.0)
            fine = _resized(
                logits + image * stride_b, stride_y, stride_x, y, x, h, w, height, width, k * stride_k,
                used & (k < num_classes),
            )  # fmt: skip
            share = tl.exp(fine - normaliser) - tl.where(k == label, 1.0, 0.0)
            total += tl.where(used, slope * share, 0.0)
    here = out + image * stride_b + row * stride_y + column * stride_x + k * stride_k
    tl.store(here, total.to(out.dtype.element_ty), mask=inside & (k < num_classes))


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        target = target.contiguous()
        loss = torch.empty(target.shape, dtype=torch.float32, device=logits.device)
        log_sum = torch.empty_like(loss)
        batch, num_classes, h, w = logits.shape
        height, width = target.shape[-2:]
        grid = (triton.cdiv(height * width, PIXELS), batch)
        sizes = (num_classes, h, w, height, width)
        _forward[grid](
            logits, target, loss, log_sum, *logits.stride(), *sizes, pixels=PIXELS, classes=CLASSES
        )
        ctx.save_for_backward(logits, target, log_sum)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, target, log_sum = ctx.saved_tensors
        # The gradient gets the strides of the logits, which therefore must be dense.
        if not logits.is_contiguous() and not logits.is_contiguous(memory_format=torch.channels_last):
            logits = logits.contiguous()
        out = torch.empty_like(logits)
        batch, num_classes, h, w = logits.shape
        height, width = target.shape[-2:]
        # Pixels within one row of logits, above and below; one more against rounding.
        reach = dict(rows=math.ceil(2 * height / h) + 2, columns=math.ceil(2 * width / w) + 2)
        grid = (triton.cdiv(h * w, PIXELS), triton.cdiv(num_classes, CLASSES), batch)
        sizes = (num_classes, h, w, height, width)
        tensors = (logits, target, log_sum, grad.contiguous(), out)
        _backward[grid](*tensors, *logits.stride(), *sizes, pixels=PIXELS, classes=CLASSES, **reach)
        return out, None


def pixelwise_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Compute ``cross_entropy(interpolate(logits), target, reduction='none')`` by Triton.

    Second derivatives do not work. The loss of a label outside the classes is NaN.

    Args:
        logits: Tensor of shape BxKxhxw, resized bilinearly with align_corners=False.
        target: Int64 labels of shape BxHxW, each from 0 to K - 1.

    Returns:
        Float32 tensor of shape BxHxW.

    Raises:
        ValueError: If the logits are on a CPU.
    """
    if not logits.is_cuda and os.environ.get('TRITON_INTERPRET') != '1':
        raise ValueError("CrossEntropyLoss(kernel='triton') needs a GPU: use kernel='torch'")
    return _CrossEntropy.apply(logits, target)
