"""Cross-entropy of logits that are coarser than the labels, without holding them at the labels' size."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from dpt.models.layers import bands, resized


class _Window:
    """Rows of the coarse logits as a leaf of a graph of its own."""

    def __init__(self, coarse: Tensor, requires_grad: bool) -> None:
        self.coarse, self.requires_grad = coarse, requires_grad

    def __call__(self, top: int, bottom: int) -> Tensor:
        self.rows = slice(top, bottom)
        self.leaf = self.coarse[..., self.rows, :].detach().requires_grad_(self.requires_grad)
        return self.leaf


class _ResizedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, label: Tensor, weight: Tensor | None, ignore_index: int
    ) -> tuple[Tensor, Tensor]:
        coarse = logits.detach().float()
        gradient = torch.zeros_like(coarse) if ctx.needs_input_grad[0] else None
        total, correct = coarse.new_zeros(()), coarse.new_zeros((), dtype=torch.long)
        size, new_size = (coarse.shape[-2], coarse.shape[-1]), (label.shape[-2], label.shape[-1])
        bytes_per_row = coarse.element_size() * coarse.shape[0] * coarse.shape[1] * new_size[1]
        window = _Window(coarse, gradient is not None)
        for top, bottom in bands(new_size[0], bytes_per_row, coarse.device):
            target = label[:, top:bottom]
            with torch.autocast(coarse.device.type, enabled=False), torch.enable_grad():
                fine = resized(window, size, new_size)(top, bottom)
                loss = F.cross_entropy(fine, target, weight, ignore_index=ignore_index, reduction='sum')
            if gradient is not None:
                gradient[..., window.rows, :] += torch.autograd.grad(loss, window.leaf)[0]
            total += loss.detach()
            correct += ((fine.detach().argmax(dim=1) == target) & (target != ignore_index)).sum()
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_total).to(ctx.dtype), None, None, None


@torch.compiler.disable
def resized_cross_entropy(
    logits: Tensor, label: Tensor, *, weight: Tensor | None = None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Sum the cross-entropy over the pixels of the label, in float32, and count the pixels that are right.

    The logits at the size of the label, their softmax and their gradient would each take K times the label's
    memory in float32. So a band of rows is resized, its loss and its gradient are computed, the gradient is
    added to that of the coarse logits, and the band is forgotten. Equal to resizing first, up to rounding.

    Args:
        logits: Tensor of shape BxKxhxw; resized bilinearly with align_corners=False.
        label: Int64 labels of shape BxHxW.
        weight: A weight per class, float32, or ``None``.
        ignore_index: Label of pixels that do not count.

    Returns:
        The sum, differentiable once, and the number of labelled pixels whose largest logit is the label's.
    """
    return _ResizedCrossEntropy.apply(logits, label, weight, ignore_index)
