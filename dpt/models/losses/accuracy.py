"""Pixel accuracy for the training log."""

import torch
from torch import Tensor


@torch.no_grad()
def accuracy(logits: Tensor, label: Tensor, ignore_index: int) -> Tensor:
    """Share of labelled pixels whose largest logit is the label's, in percent.

    Args:
        logits: Tensor of shape BxKxHxW.
        label: Labels of shape BxHxW.
        ignore_index: Label of pixels that do not count.

    Returns:
        Scalar tensor; 0 where no pixel is labelled.
    """
    labelled = label != ignore_index
    correct = (logits.argmax(dim=1) == label) & labelled
    return 100.0 * correct.sum() / labelled.sum().clamp(min=1)
