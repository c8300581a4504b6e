"""Pixel-wise cross-entropy."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dpt.models.layers import resize
from dpt.registry import MODELS

CLASSES_AT_A_TIME = 16


@MODELS.register_module()
class CrossEntropyLoss(nn.Module):
    """Mean cross-entropy over the pixels of the target, computed in float32.

    Resizes coarser logits to the target (bilinear, align_corners=False) a few classes at a time, so neither
    pass stores full-size logits or gradients of all classes.

    Args:
        class_weight: Weight of each class, or ``None`` for equal weights. With weights, the loss is the
            weighted mean over labelled pixels.
        loss_weight: Factor of the loss.
        avg_non_ignore: Whether to average over labelled pixels only. ``False``, as in the published recipe,
            counts ignored pixels in the denominator.
        loss_name: Key of the loss in the log; only keys that contain ``loss`` are trained on.
    """

    takes_coarse_logits = True
    class_weight: Tensor | None

    def __init__(
        self,
        class_weight: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        *,
        avg_non_ignore: bool = False,
        loss_name: str = 'loss_ce',
    ) -> None:
        super().__init__()
        weight = None if class_weight is None else torch.tensor(tuple(class_weight), dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)
        self.loss_weight = loss_weight
        self.avg_non_ignore = avg_non_ignore
        self.loss_name = loss_name

    def forward(self, logits: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
        """Compute the loss.

        Args:
            logits: Tensor of shape BxKxhxw, resized to the size of the target.
            target: Int64 labels of shape BxHxW.
            ignore_index: Label of pixels to ignore.

        Returns:
            Scalar, float32.
        """
        weight = None if self.class_weight is None else self.class_weight.float()
        if logits.shape[0] != target.shape[0]:
            raise ValueError(f'got logits of {logits.shape[0]} images but labels of {target.shape[0]}')
        if weight is not None and len(weight) != logits.shape[1]:
            raise ValueError(
                f'class_weight has {len(weight)} entries but the head predicts {logits.shape[1]} classes'
            )
        labelled = target != ignore_index
        target = target.masked_fill(~labelled, 0)
        pixel_weight = labelled.float() if weight is None else weight[target] * labelled
        total = (pixelwise_cross_entropy(logits, target) * pixel_weight).sum()
        count: Tensor | int
        if weight is not None:
            count = pixel_weight.sum().clamp(min=torch.finfo(torch.float32).tiny)
        elif self.avg_non_ignore:
            count = pixel_weight.sum().clamp(min=1)
        else:
            count = target.numel()
        return self.loss_weight * total / count


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
        # Clamp labels of other chunks into this one, but keep invalid labels so that gather raises an error.
        index = target - start
        if start > 0:
            index = index.clamp(min=0)
        if end < logits.shape[1]:
            index = index.clamp(max=end - start - 1)
        chunk_sum, chunk_own = checkpoint(
            _log_sum_exp_and_own, chunk, index, use_reentrant=False, preserve_rng_state=False
        )
        log_sum.append(chunk_sum)
        own.append(torch.where((target >= start) & (target < end), chunk_own, 0.0))
        start = end
    return torch.stack(log_sum).logsumexp(dim=0) - torch.stack(own).sum(dim=0)


def _log_sum_exp_and_own(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-sum-exp over the classes of the resized logits, and the logit of class ``index``.

    Args:
        logits: Tensor of shape Bxkxhxw, a chunk of the classes.
        index: Int64 tensor of shape BxHxW, from 0 to k - 1.
    """
    fine = resize(logits.float(), index.shape[-2:])
    return fine.logsumexp(dim=1), fine.gather(1, index[:, None])[:, 0]
