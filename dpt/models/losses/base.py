"""What losses share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class NamedLoss(nn.Module):
    """Base class of losses with a factor and a name in the log.

    Args:
        loss_weight: Factor of the loss.
        loss_name: Key of the loss in the log; only keys that contain ``loss`` are trained on.
    """

    def __init__(self, loss_weight: float, loss_name: str) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name


class PixelLoss(NamedLoss):
    """Base class of segmentation losses, with optional class weights.

    Args:
        loss_weight: As for :class:`NamedLoss`.
        loss_name: As for :class:`NamedLoss`.
        class_weight: Weight of each class, or ``None`` for equal weights.
    """

    ground_truth = 'gt_sem_seg'
    class_weight: Tensor | None

    def __init__(
        self, loss_weight: float, loss_name: str, class_weight: Sequence[float] | None = None
    ) -> None:
        super().__init__(loss_weight, loss_name)
        weight = None if class_weight is None else torch.tensor(tuple(class_weight), dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)

    def checked_class_weight(self, logits: Tensor, target: Tensor) -> Tensor | None:
        """Return the class weights in float32.

        Raises:
            ValueError: If their number, or the number of images, differs between logits and labels.
        """
        if logits.shape[0] != target.shape[0]:
            raise ValueError(f'got logits of {logits.shape[0]} images but labels of {target.shape[0]}')
        weight = self.class_weight
        if weight is not None and len(weight) != logits.shape[1]:
            raise ValueError(
                f'class_weight has {len(weight)} entries but the head predicts {logits.shape[1]} classes'
            )
        return None if weight is None else weight.float()


def one_hot(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Return whether each pixel has each class, as bool of shape BxKxHxW; ignored pixels have none.

    Args:
        target: Int64 labels of shape BxHxW; a label outside the classes raises an error.
        num_classes: Number of classes K.
        ignore_index: Label of ignored pixels.
    """
    labelled = (target != ignore_index)[:, None]
    empty = target.new_zeros(target.shape[0], num_classes, *target.shape[1:], dtype=torch.bool)
    return empty.scatter(1, target[:, None].masked_fill(~labelled, 0), labelled)
