"""Cross-entropy over pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dpt.models.losses.resized import resized_cross_entropy
from dpt.registry import MODELS


@MODELS.register_module()
class CrossEntropyLoss(nn.Module):
    """Mean cross-entropy over the pixels of the label, in float32, whatever the logits' type and size.

    Args:
        class_weight: A weight per class, or ``None`` for equal weights. With weights, so is the mean:
            it counts labelled pixels only, each as much as its class.
        loss_weight: Factor of the result.
        avg_non_ignore: Whether the mean is over labelled pixels only. ``False``, as in the published recipe,
            counts ignored pixels in the denominator.
        loss_name: Key under which the loss is logged; it must begin with ``loss_``.
    """

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
        if not loss_name.startswith('loss_'):
            raise ValueError(f"loss_name={loss_name!r} must begin with 'loss_', else it would not be summed")
        weight = None if class_weight is None else torch.tensor(tuple(class_weight), dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)
        self.loss_weight = loss_weight
        self.avg_non_ignore = avg_non_ignore
        self.loss_name = loss_name

    def forward(self, logits: Tensor, label: Tensor, ignore_index: int) -> Tensor:
        """Compute the loss alone; arguments as those of :meth:`with_accuracy`."""
        return self.with_accuracy(logits, label, ignore_index)[0]

    def with_accuracy(self, logits: Tensor, label: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        """Compute the loss, and the accuracy for the log, in one pass over the pixels.

        Args:
            logits: Tensor of shape BxKxhxw, resized bilinearly to the size of the label.
            label: Int64 labels of shape BxHxW.
            ignore_index: Label of pixels without loss.

        Returns:
            The loss, and the share in percent of labelled pixels that are right, 0 where none is labelled;
            scalar tensors.
        """
        weight = self.class_weight
        if weight is not None and len(weight) != logits.shape[1]:
            raise ValueError(
                f'class_weight has {len(weight)} entries but the head predicts {logits.shape[1]} classes'
            )
        total, correct = resized_cross_entropy(logits, label, weight=weight, ignore_index=ignore_index)
        loss = self.loss_weight * total / self._denominator(label, weight, ignore_index)
        return loss, 100.0 * correct / (label != ignore_index).sum().clamp(min=1)

    def _denominator(self, label: Tensor, weight: Tensor | None, ignore_index: int) -> Tensor | int:
        labelled = label != ignore_index
        if weight is not None:
            pixels = weight[label.masked_fill(~labelled, 0)] * labelled
            return pixels.sum().clamp(min=torch.finfo(weight.dtype).tiny)
        return labelled.sum().clamp(min=1) if self.avg_non_ignore else label.numel()
