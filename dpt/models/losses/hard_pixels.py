"""Online hard example mining (OHEM): train on the pixels that the model finds difficult."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dpt.models.losses.base import PixelLoss
from dpt.models.losses.classwise import pixelwise_cross_entropy
from dpt.registry import MODELS


def unsure_pixels(losses: Tensor, labelled: Tensor, thresh: float, min_kept: int) -> Tensor:
    """Return the pixels whose own class has a probability below ``thresh``, but at least ``min_kept``.

    Too few are completed by those with the next higher probability. MMSegmentation drops the pixel with the
    highest probability if there are ``min_kept`` labelled pixels or fewer, in which case all are kept here.

    Args:
        losses: Cross-entropy of each pixel, of shape BxHxW.
        labelled: Whether each pixel has a class, of shape BxHxW.
        thresh: Probability.
        min_kept: Number of pixels of the batch.

    Returns:
        Bool of shape BxHxW.
    """
    probability = torch.exp(-losses.detach()).masked_fill(~labelled, torch.inf)
    count = labelled.sum()
    # gather, because an index would be copied to the CPU
    bound = probability.flatten().sort().values.gather(0, (count - 1).clamp(min=0, max=min_kept)[None])
    return labelled & ((probability < bound.clamp(min=thresh)) | (count <= min_kept))


def _check(thresh: float, min_kept: int) -> None:
    if not 0 < thresh <= 1:
        raise ValueError(f'the threshold {thresh} must be a probability, above 0 and at most 1')
    if min_kept < 1:
        raise ValueError(f'min_kept={min_kept} must be at least 1')


@MODELS.register_module()
class OHEMPixelSampler(nn.Module):
    """Choose hard pixels for ``CrossEntropyLoss(sampler=dict(type='OHEMPixelSampler', ...))``.

    In MMSegmentation, the sampler is an argument of the head. As there, the loss of the other pixels counts
    as zero and the denominator of the mean stays, so the loss is smaller than without a sampler.

    Args:
        thresh: Pixels whose own class has a lower probability are hard; ``None`` takes the ``min_kept``
            pixels per image with the highest loss.
        min_kept: Minimum number of pixels per image, counted over the whole batch.
    """

    def __init__(self, thresh: float | None = None, min_kept: int = 100000) -> None:
        super().__init__()
        _check(1.0 if thresh is None else thresh, min_kept)
        self.thresh = thresh
        self.min_kept = min_kept

    def forward(self, losses: Tensor, labelled: Tensor, pixel_weight: Tensor) -> Tensor:
        """Return the hard pixels as bool of shape BxHxW.

        Args:
            losses: Cross-entropy of each pixel without class weights, of shape BxHxW.
            labelled: Whether each pixel has a class, of shape BxHxW.
            pixel_weight: Class weight of each pixel, of shape BxHxW.
        """
        kept = self.min_kept * len(losses)
        if self.thresh is not None:
            return unsure_pixels(losses, labelled, self.thresh, kept)
        weighted = (losses * pixel_weight).detach().masked_fill(~labelled, -torch.inf).flatten()
        hardest = weighted.argsort(descending=True)[:kept]
        chosen = torch.zeros_like(weighted, dtype=torch.bool).scatter(0, hardest, True)
        return labelled & chosen.view_as(labelled)


@MODELS.register_module()
class OhemCrossEntropy(PixelLoss):
    """Mean cross-entropy over hard pixels: those whose own class has a probability below ``thres``.

    With ``thres=0.7, min_kept=200000`` it is the loss that UniMatch uses for Cityscapes. The mean of no
    pixels is zero, where MMSegmentation returns NaN. Source: Shrivastava et al. 2016, arXiv 1604.03540.

    Args:
        thres: Probability, spelt as in MMSegmentation.
        min_kept: Minimum number of pixels of the batch; if fewer pixels are hard, those with the next higher
            probability are added.
        loss_weight: Factor of the loss.
        class_weight: Factor of the cross-entropy of each class; the denominator stays the number of pixels.
        loss_name: Key of the loss in the log.
    """

    takes_coarse_logits = True

    def __init__(
        self,
        thres: float = 0.7,
        min_kept: int = 100000,
        *,
        loss_weight: float = 1.0,
        class_weight: Sequence[float] | None = None,
        loss_name: str = 'loss_ohem',
    ) -> None:
        super().__init__(loss_weight, loss_name, class_weight)
        _check(thres, min_kept)
        self.thres = thres
        self.min_kept = min_kept

    def forward(self, logits: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
        """Compute the loss, a float32 scalar; for the arguments see :class:`CrossEntropyLoss`."""
        weight = self.checked_class_weight(logits, target)
        labelled = target != ignore_index
        target = target.masked_fill(~labelled, 0)
        losses = pixelwise_cross_entropy(logits, target)
        hard = unsure_pixels(losses, labelled, self.thres, self.min_kept)
        if weight is not None:
            losses = losses * weight[target]
        return self.loss_weight * (losses * hard).sum() / hard.sum().clamp(min=1)
