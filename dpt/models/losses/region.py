"""Losses against imbalance between classes: of regions (Dice, Tversky, Lovasz-Softmax) and focal."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dpt.models.losses.base import PixelLoss, one_hot
from dpt.models.losses.classwise import sum_over_classes
from dpt.registry import MODELS


@MODELS.register_module()
class DiceLoss(PixelLoss):
    """Dice loss of each image over all pixels and classes together, averaged over the images.

    Ignored pixels count nowhere. In MMSegmentation they count as pixels of no class, which trains every score
    towards zero there. Source: Milletari et al. 2016, arXiv 1606.04797.

    Args:
        use_sigmoid: Whether scores are the sigmoid of the logits instead of the softmax.
        activate: ``False`` if the head returns scores instead of logits.
        naive_dice: Whether the denominator sums scores instead of their squares.
        loss_weight: Factor of the loss.
        ignore_index: A class whose scores are left out, such as the background; its pixels stay negatives of
            the other classes. Labels outside the classes, such as MMSegmentation's default 255, have no
            effect: pixels are ignored by the ``ignore_index`` of the data set.
        eps: Added to the denominator and, if naive, to the numerator.
        loss_name: Key of the loss in the log.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        activate: bool = True,
        *,
        naive_dice: bool = False,
        loss_weight: float = 1.0,
        ignore_index: int | None = None,
        eps: float = 1e-3,
        loss_name: str = 'loss_dice',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        self.use_sigmoid = use_sigmoid
        self.activate = activate
        self.naive_dice = naive_dice
        self.ignore_index = ignore_index
        self.eps = eps

    def forward(self, logits: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
        """Compute the loss of logits of shape BxKxHxW and int64 labels of shape BxHxW, a float32 scalar."""
        scores = logits.float()
        if self.activate:
            scores = scores.sigmoid() if self.use_sigmoid else scores.softmax(dim=1)
        own = one_hot(target, logits.shape[1], ignore_index)
        scores = scores.masked_fill((target == ignore_index)[:, None], 0)
        if self.ignore_index in range(logits.shape[1]):
            kept = [c for c in range(logits.shape[1]) if c != self.ignore_index]
            scores, own = scores[:, kept], own[:, kept]
        scores, own = scores.flatten(1), own.flatten(1)
        overlap, size = scores.masked_fill(~own, 0).sum(dim=1), own.sum(dim=1)
        if self.naive_dice:
            dice = (2 * overlap + self.eps) / (scores.sum(dim=1) + size + self.eps)
        else:
            dice = 2 * overlap / (scores.square().sum(dim=1) + size + 2 * self.eps)
        return self.loss_weight * (1 - dice).mean()


@MODELS.register_module()
class TverskyLoss(PixelLoss):
    """Tversky loss of each image and class, averaged: Dice with separate weights of the two kinds of errors.

    Source: Salehi et al. 2017, arXiv 1706.05721.

    Args:
        smooth: Added to numerator and denominator.
        class_weight: Factor of the loss of each class; the denominator stays the number of classes.
        loss_weight: Factor of the loss.
        ignore_index: A label whose pixels are ignored, in addition to that of the data set; if it is a class,
            it adds nothing to the loss, but still counts in the average over the classes.
        alpha: Weight of false positives.
        beta: Weight of false negatives; both 0.5 is Dice.
        loss_name: Key of the loss in the log.
    """

    def __init__(
        self,
        smooth: float = 1.0,
        class_weight: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        *,
        ignore_index: int | None = None,
        alpha: float = 0.3,
        beta: float = 0.7,
        loss_name: str = 'loss_tversky',
    ) -> None:
        super().__init__(loss_weight, loss_name, class_weight)
        self.smooth = smooth
        self.ignore_index = ignore_index
        self.alpha = alpha
        self.beta = beta

    def forward(self, logits: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
        """Compute the loss of logits of shape BxKxHxW and int64 labels of shape BxHxW, a float32 scalar."""
        weight = self.checked_class_weight(logits, target)
        if self.ignore_index is not None:
            target = target.masked_fill(target == self.ignore_index, ignore_index)
        own = one_hot(target, logits.shape[1], ignore_index)
        scores = logits.float().softmax(dim=1).masked_fill((target == ignore_index)[:, None], 0)
        hits = scores.masked_fill(~own, 0).sum(dim=(2, 3))  # BxK
        false_positives, misses = scores.sum(dim=(2, 3)) - hits, own.sum(dim=(2, 3)) - hits
        errors = self.alpha * false_positives + self.beta * misses
        losses = 1 - (hits + self.smooth) / (hits + errors + self.smooth)
        if weight is not None:
            losses = losses * weight
        if self.ignore_index in range(logits.shape[1]):
            losses = losses.index_fill(1, target.new_tensor([self.ignore_index]), 0)
        return self.loss_weight * losses.mean()


@MODELS.register_module()
class FocalLoss(PixelLoss):
    """Sigmoid focal loss of each class against the rest, averaged over all pixels and classes.

    Ignored pixels add nothing, but count in the denominator, as in MMSegmentation, whose implementation for
    CPUs fails with more than one class. Source: Lin et al. 2017, arXiv 1708.02002.

    Args:
        gamma: Exponent of the factor that reduces the loss of easy pixels.
        alpha: Weight of the pixels that have the class, between 0 and 1; the others get ``1 - alpha``. A list
            has one for each class.
        class_weight: Factor of the loss of each class.
        loss_weight: Factor of the loss.
        use_sigmoid: Only ``True``, as in MMSegmentation.
        loss_name: Key of the loss in the log.
    """

    takes_coarse_logits = True

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | Sequence[float] = 0.5,
        *,
        class_weight: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        use_sigmoid: bool = True,
        loss_name: str = 'loss_focal',
    ) -> None:
        super().__init__(loss_weight, loss_name, class_weight)
        if not use_sigmoid:
            raise ValueError('FocalLoss has use_sigmoid=True only')
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
        """Compute the loss, a float32 scalar; for the arguments see :class:`CrossEntropyLoss`."""
        weight = self.checked_class_weight(logits, target)
        count = logits.shape[1]
        if not isinstance(self.alpha, (int, float)) and len(self.alpha) != count:
            raise ValueError(f'alpha has {len(self.alpha)} entries but the head predicts {count} classes')
        alpha = torch.as_tensor(self.alpha, dtype=torch.float32, device=logits.device).expand(count)

        def loss(fine: Tensor, positive: Tensor, classes: slice) -> Tensor:
            share = alpha[classes, None, None]
            wrong = torch.where(positive, -fine, fine)  # logit of the other of the two
            # sigmoid ** gamma has infinite gradients at confident logits if gamma < 1.
            factor = torch.exp(self.gamma * F.logsigmoid(wrong))
            losses = torch.where(positive, share, 1 - share) * factor
            losses = losses * F.softplus(wrong)
            return losses if weight is None else losses * weight[classes, None, None]

        labelled = target != ignore_index
        losses = sum_over_classes(logits, target.masked_fill(~labelled, 0), loss)
        return self.loss_weight * (losses * labelled).sum() / (target.numel() * count)


@MODELS.register_module()
class LovaszLoss(PixelLoss):
    """Lovasz-Softmax loss, a convex surrogate of 1 - IoU, or the binary Lovasz hinge.

    Ignored pixels count nowhere; without labelled pixels the loss is zero. Source: Berman et al. 2018, arXiv
    1705.08790.

    Args:
        loss_type: ``'multi_class'``, or ``'binary'`` for two classes: the hinge loss of the second class,
            whose logit is the difference of both.
        classes: ``'present'`` averages over the classes in the labels, ``'all'`` over all, a list over those.
        per_image: Whether to compute the loss of each image instead of that of the batch.
        reduction: ``'mean'`` or ``'sum'`` over the images with ``per_image``; without it, no effect
            (MMSegmentation then expects ``'none'``).
        class_weight: Factor of the loss of each class; the denominator stays the number of classes.
        loss_weight: Factor of the loss.
        loss_name: Key of the loss in the log.
    """

    def __init__(
        self,
        loss_type: str = 'multi_class',
        classes: str | Sequence[int] = 'present',
        *,
        per_image: bool = False,
        reduction: str = 'mean',
        class_weight: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_lovasz',
    ) -> None:
        super().__init__(loss_weight, loss_name, class_weight)
        if loss_type not in ('binary', 'multi_class'):
            raise ValueError(f"loss_type={loss_type!r} must be 'multi_class' or 'binary'")
        if loss_type == 'binary' and class_weight is not None:
            raise ValueError("class_weight has no effect with loss_type='binary': remove it")
        if isinstance(classes, str) and classes not in ('present', 'all'):
            raise ValueError(f"classes={classes!r} must be 'present', 'all' or a list of labels")
        if reduction not in (('mean', 'sum') if per_image else ('none', 'mean', 'sum')):
            raise ValueError(f"reduction={reduction!r} must be 'mean' or 'sum' with per_image=True")
        self.binary = loss_type == 'binary'
        self.classes = classes
        self.per_image = per_image
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
        """Compute the loss of logits of shape BxKxHxW and int64 labels of shape BxHxW, a float32 scalar."""
        weight = self.checked_class_weight(logits, target)
        if self.binary and logits.shape[1] != 2:
            raise ValueError(f"loss_type='binary' needs two classes, but the head predicts {logits.shape[1]}")
        own = one_hot(target, logits.shape[1], ignore_index)
        logits, ignored = logits.float(), (target == ignore_index)[:, None]
        if self.binary:
            own = own[:, 1:]
            margin = logits[:, 1:] - logits[:, :1]
            errors = (1 - torch.where(own, margin, -margin)).relu()
        else:
            errors = (own.float() - logits.softmax(dim=1)).abs()
        errors = errors.masked_fill(ignored, 0)  # last in order, and without influence on the others
        if not self.per_image:
            return self.loss_weight * self._of(errors, own, weight)
        images = [self._of(errors[i : i + 1], own[i : i + 1], weight) for i in range(len(target))]
        total = torch.stack(images)
        return self.loss_weight * (total.sum() if self.reduction == 'sum' else total.mean())

    def _of(self, errors: Tensor, own: Tensor, weight: Tensor | None) -> Tensor:
        """Return the mean over the classes for errors and bool labels of shape BxKxHxW."""
        chosen: Sequence[int] = range(own.shape[1])
        if not self.binary and self.classes == 'present':
            chosen = own.any(dim=(0, 2, 3)).nonzero()[:, 0].tolist()
        elif not self.binary and not isinstance(self.classes, str):
            chosen = self.classes
        losses = [lovasz_extension(errors[:, c].flatten(), own[:, c].flatten()) for c in chosen]
        if weight is not None:
            losses = [loss * weight[c] for loss, c in zip(losses, chosen, strict=True)]
        return torch.stack(losses).mean() if losses else errors.sum() * 0


def lovasz_extension(errors: Tensor, positive: Tensor) -> Tensor:
    """Return the Lovasz extension of the Jaccard loss at the errors of N pixels.

    Args:
        errors: Errors from 0, of shape N; pixels with an error of 0 have no influence.
        positive: Whether each pixel has the class, of shape N.
    """
    errors, order = errors.sort(descending=True)
    positive = positive[order]
    total = positive.sum()
    # Jaccard loss of predicting all pixels wrongly up to each of them.
    jaccard = 1 - (total - positive.cumsum(0)) / (total + (~positive).cumsum(0))
    return (errors * jaccard.diff(prepend=jaccard.new_zeros(1))).sum()
