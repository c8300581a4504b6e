"""Cross-entropy of logits that are coarser than the labels, without holding them at the labels' size."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpt.models.layers import bands, row_weights, source_rows

MAPS_AT_A_TIME = 4
"""How many tensors of a band's size may be in use at once."""


def _softmax_loss_(
    logits: Tensor, label: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy and the number of right pixels; the logits become their gradient.

    Args:
        logits: Tensor of shape BxHxWxK; overwritten.
        label: Tensor of shape BxHxW.
        weight: A weight per class, or ``None``.
        ignore_index: Label of pixels that do not count.
    """
    labelled = (label != ignore_index)[..., None]
    index = torch.where(labelled, label[..., None], 0)
    pixel_weight = labelled.to(logits.dtype) if weight is None else weight[index] * labelled
    largest, best = logits.max(dim=-1, keepdim=True)
    correct = ((best == index) & labelled).sum()
    logits.sub_(largest)
    own = logits.gather(-1, index)
    total = logits.exp_().sum(dim=-1, keepdim=True)
    loss = ((total.log() - own) * pixel_weight).sum()
    logits.mul_(pixel_weight / total).scatter_add_(-1, index, -pixel_weight)
    return loss, correct


def _widen(x: Tensor, width: int) -> Tensor:
    """Resize rows of shape BxHxwxK to ``width``."""
    x = x.permute(0, 3, 1, 2)
    x = F.interpolate(x, size=(x.shape[-2], width), mode='bilinear', align_corners=False)
    return x.permute(0, 2, 3, 1)


def _widen_backward(gradient: Tensor, width: int) -> Tensor:
    """Bring a gradient of shape BxHxWxK back to ``width``: the adjoint of :func:`_widen`."""
    gradient = gradient.permute(0, 3, 1, 2)
    size = list(gradient.shape)
    gradient = torch.ops.aten.upsample_bilinear2d_backward(
        gradient, size[-2:], [*size[:-1], width], False, None, None
    )
    return gradient.permute(0, 2, 3, 1)


@torch.library.custom_op('dpt::resized_cross_entropy', mutates_args=())
def _resized_cross_entropy(
    logits: Tensor, label: Tensor, weight: Tensor | None, ignore_index: int, with_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    # Classes last: softmax and resizing then run along memory.
    coarse = logits.float().permute(0, 2, 3, 1).contiguous()  # BxhxwxK
    gradient = torch.zeros_like(coarse) if with_gradient else coarse.new_empty(0)
    loss, correct = coarse.new_zeros(()), coarse.new_zeros((), dtype=torch.long)
    width, heights = coarse.shape[2], (coarse.shape[1], label.shape[1])
    bytes_per_row = coarse.element_size() * coarse.shape[0] * coarse.shape[3] * label.shape[2]
    for top, bottom in bands(heights[1], MAPS_AT_A_TIME * bytes_per_row, coarse.device):
        span = source_rows(top, bottom, *heights)
        lower, upper, share = row_weights(top, bottom, *heights, device=coarse.device)
        window, share = coarse[:, span], share[:, None, None]
        tall = torch.lerp(window.index_select(1, lower), window.index_select(1, upper), share)
        band = tall if width == label.shape[2] else _widen(tall, label.shape[2])
        band_loss, band_correct = _softmax_loss_(band, label[:, top:bottom], weight, ignore_index)
        loss += band_loss
        correct += band_correct
        if with_gradient:
            tall = band if width == label.shape[2] else _widen_backward(band, width)
            of_upper = tall * share
            gradient[:, span].index_add_(1, upper, of_upper).index_add_(1, lower, tall.sub_(of_upper))
    return loss, correct, gradient


@_resized_cross_entropy.register_fake
def _(
    logits: Tensor, label: Tensor, weight: Tensor | None, ignore_index: int, with_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    batch, classes, height, width = logits.shape
    shape = (batch, height, width, classes) if with_gradient else (0,)
    scalar = logits.new_empty((), dtype=torch.float32)
    return scalar, logits.new_empty((), dtype=torch.long), logits.new_empty(shape, dtype=torch.float32)


def _keep_gradient(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, correct, gradient = output
    ctx.save_for_backward(gradient)
    ctx.dtype = inputs[0].dtype
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(correct, gradient)


def _backward(ctx: Any, grad_loss: Tensor, *_: None) -> tuple[Tensor, None, None, None, None]:
    (gradient,) = ctx.saved_tensors
    return (gradient * grad_loss).to(ctx.dtype).permute(0, 3, 1, 2), None, None, None, None


_resized_cross_entropy.register_autograd(_backward, setup_context=_keep_gradient)


def resized_cross_entropy(
    logits: Tensor, label: Tensor, *, weight: Tensor | None = None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Sum the cross-entropy over the pixels of the label, in float32, and count the pixels that are right.

    The logits at the size of the label, their softmax and their gradient would each take K times the label's
    memory in float32. So a band of rows is resized, its loss and its gradient are computed, the gradient is
    added to that of the coarse logits, and the band is forgotten. Equal to resizing first, up to rounding.
    An operator of its own, so that compiled models keep it as it is.

    Args:
        logits: Tensor of shape BxKxhxw; resized bilinearly with align_corners=False.
        label: Int64 labels of shape BxHxW.
        weight: A weight per class, float32, or ``None``.
        ignore_index: Label of pixels that do not count.

    Returns:
        The sum, differentiable once, and the number of labelled pixels whose largest logit is the label's.
    """
    with_gradient = torch.is_grad_enabled() and logits.requires_grad
    loss, correct, _ = _resized_cross_entropy(logits, label, weight, ignore_index, with_gradient)
    return loss, correct
