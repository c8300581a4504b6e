"""Compute losses a few classes at a time, so that no pass stores full-size logits of all classes."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dpt.models.layers import resize

CLASSES_AT_A_TIME = 16


def pixelwise_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Compute ``cross_entropy(interpolate(logits), target, reduction='none')`` a few classes at a time.

    The backward pass recomputes each chunk with ``torch.utils.checkpoint``. Second derivatives, autocast and
    compilation work; ``torch.func`` transforms do not, because they do not support checkpointing.

    Args:
        logits: Tensor of shape BxKxhxw, resized bilinearly with align_corners=False.
        target: Int64 labels of shape BxHxW, each from 0 to K - 1.

    Returns:
        Float32 tensor of shape BxHxW.
    """
    log_sum, own, start = [], [], 0
    for chunk in logits.split(CLASSES_AT_A_TIME, dim=1):
        end = start + chunk.shape[1]
        chunk_sum, chunk_own = checkpoint(
            _log_sum_exp_and_own,
            chunk,
            target,
            start,
            end == logits.shape[1],
            use_reentrant=False,
            preserve_rng_state=False,
        )
        log_sum.append(chunk_sum)
        own.append(torch.where((target >= start) & (target < end), chunk_own, 0.0))
        start = end
    return torch.stack(log_sum).logsumexp(dim=0) - torch.stack(own).sum(dim=0)


def _log_sum_exp_and_own(logits: Tensor, target: Tensor, start: int, last: bool) -> tuple[Tensor, Tensor]:
    """Return the log-sum-exp over a chunk of classes of the resized logits, and the logit of the target.

    Args:
        logits: Tensor of shape Bxkxhxw, the classes from ``start`` on.
        target: Int64 labels of shape BxHxW. The logit is meaningless for those of other chunks.
        start: First class of the chunk.
        last: Whether the chunk has the last class.
    """
    # Clamp labels of other chunks into this one, but keep invalid labels so that gather raises an error.
    index = target - start
    if start > 0:
        index = index.clamp(min=0)
    if not last:
        index = index.clamp(max=logits.shape[1] - 1)
    fine = resize(logits.float(), target.shape[-2:])
    return fine.logsumexp(dim=1), fine.gather(1, index[:, None])[:, 0]


BinaryLoss = Callable[[Tensor, Tensor, slice], Tensor]
"""Maps resized logits and bool targets, both of shape BxkxHxW, and the slice of classes to a loss BxkxHxW."""


def sum_over_classes(logits: Tensor, target: Tensor, loss: BinaryLoss) -> Tensor:
    """Sum a binary loss over the classes, each against the rest, a few classes at a time.

    Args:
        logits: Tensor of shape BxKxhxw, resized bilinearly with align_corners=False.
        target: Int64 labels of shape BxHxW, each from 0 to K - 1.
        loss: The binary loss of each pixel and class.

    Returns:
        Float32 tensor of shape BxHxW.
    """
    # No class would claim an invalid label; looking it up raises an error.
    logits.new_zeros(logits.shape[1]).index_select(0, target.flatten())
    total, start = [], 0
    for chunk in logits.split(CLASSES_AT_A_TIME, dim=1):
        classes = slice(start, start + chunk.shape[1])
        total.append(
            checkpoint(
                _chunk_sum, chunk, target, classes, loss, use_reentrant=False, preserve_rng_state=False
            )
        )
        start = classes.stop
    return torch.stack(total).sum(dim=0)


def _chunk_sum(logits: Tensor, target: Tensor, classes: slice, loss: BinaryLoss) -> Tensor:
    labels = torch.arange(classes.start, classes.stop, device=target.device)
    return loss(
        resize(logits.float(), target.shape[-2:]), target[:, None] == labels[:, None, None], classes
    ).sum(dim=1)
