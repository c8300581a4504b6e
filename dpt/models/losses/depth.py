"""Losses of depth estimation.

Each takes predictions and targets of shape Bx1xHxW and the bool mask ``valid`` of this shape, and returns a
float32 scalar. What is not valid has no influence; without a valid pixel a loss is zero, with zero gradients.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dpt.models.losses.base import NamedLoss
from dpt.registry import MODELS

SMALLEST_DEVIATION = 1e-6
"""Predictions and targets that deviate less from their middle are constant."""


class DepthLoss(NamedLoss):
    """Base class of depth losses."""

    ground_truth = 'gt_depth_map'
    relative: bool | None = False
    """Whether predictions must be inverse depth without a scale; ``None`` if they may be either."""


@MODELS.register_module()
class SiLogLoss(DepthLoss):
    """Scale-invariant logarithmic loss (Eigen et al. 2014, arXiv 1406.2283).

    The root of ``mean(d^2) - variance_focus * mean(d)^2``, with ``d = log(pred) - log(target)``: of the
    variance of d plus ``1 - variance_focus`` times its squared mean. The defaults are MMSegmentation's. Depth
    Anything V2 has ``per_image=False``; the Monocular-Depth-Estimation-Toolbox, DINOv2 and DINOv3 have
    ``variance_focus=0.85, per_image=False, unbiased=True, eps=1e-3, add_eps=True``, and ``warm_up_iters=100``
    where training does not converge otherwise.

    Args:
        loss_weight: Factor of the loss.
        variance_focus: Share of the squared mean that is subtracted; 1 ignores the scale entirely.
        per_image: Whether to compute the loss of each image and average over the images, of which those
            without valid pixels count as zero, instead of over all valid pixels of the batch.
        unbiased: Whether the variance is divided by the number of pixels minus one.
        eps: Smallest depth of which the logarithm is taken.
        add_eps: Whether ``eps`` is added to all depths instead.
        warm_up_iters: Number of the first training iterations that leave the variance out. The count is part
            of checkpoints.
        loss_name: Key of the loss in the log.
    """

    iterations: Tensor

    def __init__(
        self,
        loss_weight: float = 1.0,
        *,
        variance_focus: float = 0.5,
        per_image: bool = True,
        unbiased: bool = False,
        eps: float = 1e-4,
        add_eps: bool = False,
        warm_up_iters: int = 0,
        loss_name: str = 'loss_silog',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        if not 0 <= variance_focus <= 1:
            raise ValueError(f'variance_focus={variance_focus} must be from 0 to 1')
        if eps <= 0:
            raise ValueError(f'eps={eps} must be above 0')
        self.variance_focus = variance_focus
        self.per_image = per_image
        self.unbiased = unbiased
        self.eps = eps
        self.add_eps = add_eps
        self.warm_up_iters = warm_up_iters
        if warm_up_iters:
            self.register_buffer('iterations', torch.zeros((), dtype=torch.long))

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Compute the loss, a float32 scalar."""
        difference = (self._log(pred, valid) - self._log(target, valid)).flatten(1)
        valid = valid.flatten(1)
        if not self.per_image:
            difference, valid = difference.flatten()[None], valid.flatten()[None]
        count = valid.sum(dim=1)
        mean = difference.sum(dim=1) / count.clamp(min=1)
        spread = torch.where(valid, difference - mean[:, None], 0).square().sum(dim=1)
        spread = spread / (count - int(self.unbiased)).clamp(min=1)
        if self.warm_up_iters:
            spread = torch.where(self.iterations < self.warm_up_iters, 0, spread)
            if self.training:
                self.iterations += 1
        squared = spread + (1 - self.variance_focus) * mean.square()
        # The root has an infinite gradient at zero.
        roots = torch.where(squared > 0, torch.where(squared > 0, squared, 1).sqrt(), 0)
        return self.loss_weight * roots.mean()

    def _log(self, depth: Tensor, valid: Tensor) -> Tensor:
        """Return the logarithm of valid depths, and zero elsewhere."""
        depth = torch.where(valid, depth.float(), 1)
        depth = depth + self.eps if self.add_eps else depth.clamp(min=self.eps)
        return torch.where(valid, depth.log(), 0)


@MODELS.register_module()
class GradientLogLoss(DepthLoss):
    """Difference of the gradients of log depth at several strides (MegaDepth, arXiv 1804.00607, section 4.2).

    For each stride it is the sum of the absolute differences, over pixels two apart in a row or column, of
    ``log(pred) - log(target)``, divided by the number of valid pixels of the batch; the strides are summed.

    Args:
        loss_weight: Factor of the loss; 0.5 beside ``SiLogLoss`` in DINOv2.
        strides: Strides at which prediction and target are sampled; (1, 2, 4, 6) in DINOv2 and DINOv3.
        eps: Added to depths before the logarithm.
        loss_name: Key of the loss in the log.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        *,
        strides: Sequence[int] = (1, 2, 4, 8),
        eps: float = 1e-3,
        loss_name: str = 'loss_grad_log',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        if not strides or min(strides) < 1:
            raise ValueError(f'strides={tuple(strides)} must be one or more positive whole numbers')
        if eps <= 0:
            raise ValueError(f'eps={eps} must be above 0')
        self.strides = tuple(strides)
        self.eps = eps

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Compute the loss, a float32 scalar."""
        pred, target = (torch.where(valid, depth.float(), 1) for depth in (pred, target))
        # Predictions of ReLU may be 0, those of users' heads below.
        difference = (pred.clamp(min=0) + self.eps).log() - (target + self.eps).log()
        total = difference.new_zeros(())
        for stride in self.strides:
            sampled, mask = difference[..., ::stride, ::stride], valid[..., ::stride, ::stride]
            total = total + gradient_sums(sampled, mask, step=2).sum() / mask.sum().clamp(min=1)
        return self.loss_weight * total


@MODELS.register_module()
class ScaleShiftInvariantLoss(DepthLoss):
    """Loss of relative depth: prediction and target are aligned in scale and shift, image by image.

    The sum of a data term, half the mean of the errors of an image, and of a gradient term on several scales.
    Source: MiDaS, Ranftl et al. 2020, arXiv 1907.01341, equations 5 to 11; the defaults are its final loss.

    Args:
        loss_weight: Factor of the loss.
        alignment: ``'median'``: both are shifted by their median and divided by their mean absolute deviation
            from it, and errors are absolute (equations 6 to 9, and Depth Anything). ``'least_squares'``: the
            prediction is fitted to the target, and errors are squared (equation 5).
        trim: Share of the largest errors of each image that the data term leaves out.
        gradient_weight: Factor of the gradient term (equation 11); 0 leaves it out.
        num_scales: Number of scales of the gradient term, each of half the size of the one before.
        invert_target: Whether targets are depths, of which the reciprocal is compared with the prediction;
            ``False`` if they are inverse depths already.
        per_image: Whether to average each term over the images, of which those without valid pixels count as
            zero, instead of over all valid pixels of the batch.
        loss_name: Key of the loss in the log.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        *,
        alignment: str = 'median',
        trim: float = 0.2,
        gradient_weight: float = 0.5,
        num_scales: int = 4,
        invert_target: bool = True,
        per_image: bool = True,
        loss_name: str = 'loss_ssi',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        if alignment not in ('median', 'least_squares'):
            raise ValueError(f"alignment={alignment!r} must be 'median' or 'least_squares'")
        if not 0 <= trim < 1:
            raise ValueError(f'trim={trim} must be from 0 up to, but not including, 1')
        self.alignment = alignment
        self.trim = trim
        self.gradient_weight = gradient_weight
        self.num_scales = num_scales
        self.invert_target = invert_target
        self.relative = True if invert_target else None
        self.per_image = per_image

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Compute the loss, a float32 scalar."""
        pred, target = torch.where(valid, pred.float(), 0), torch.where(valid, target.float(), 1)
        if self.invert_target:
            target = 1 / target
        target = torch.where(valid, target, 0)
        if self.alignment == 'median':
            difference = _normalised(pred, valid) - _normalised(target, valid)
            errors = difference.abs()
        else:
            difference = _fitted(pred, target, valid) - target
            errors = difference.square()
        count = valid.flatten(1).sum(dim=1)
        total = self._mean(self._trimmed(errors, valid, count), 2 * count)
        for scale in range(self.num_scales if self.gradient_weight else 0):
            sampled, mask = (x[..., :: 2**scale, :: 2**scale] for x in (difference, valid))
            sums = gradient_sums(sampled, mask, step=1)
            total = total + self.gradient_weight * self._mean(sums, mask.flatten(1).sum(dim=1))
        return self.loss_weight * total

    def _trimmed(self, errors: Tensor, valid: Tensor, count: Tensor) -> Tensor:
        """Return the sum of the errors of each image without the largest, of shape B."""
        if not self.trim:
            return torch.where(valid, errors, 0).flatten(1).sum(dim=1)
        errors = torch.where(valid, errors, torch.inf).flatten(1).sort(dim=1).values
        kept = (
            torch.arange(errors.shape[1], device=errors.device) < ((1 - self.trim) * count)[:, None].floor()
        )
        return torch.where(kept, errors, 0).sum(dim=1)

    def _mean(self, sums: Tensor, counts: Tensor) -> Tensor:
        if self.per_image:
            return (sums / counts.clamp(min=1)).mean()
        return sums.sum() / counts.sum().clamp(min=1)


def _normalised(x: Tensor, valid: Tensor) -> Tensor:
    """Shift each image by the median of its valid pixels, and divide by their mean deviation from it."""
    count = valid.sum(dim=(1, 2, 3), keepdim=True)  # Bx1x1x1
    ordered = torch.where(valid, x, torch.inf).flatten(1).sort(dim=1).values
    median = ordered.gather(1, ((count - 1) // 2).clamp(min=0).flatten(1))[..., None, None]
    x = x - torch.where(count > 0, median, 0)
    deviation = torch.where(valid, x.abs(), 0).sum(dim=(1, 2, 3), keepdim=True) / count.clamp(min=1)
    # A constant image stays constant; dividing by almost zero would make its gradients huge.
    return x / torch.where(deviation > SMALLEST_DEVIATION, deviation, 1)


def _fitted(x: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return the scaled and shifted images that fit the valid pixels of the target by least squares."""
    dims, count = (1, 2, 3), valid.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    middle, target_middle = (one.sum(dim=dims, keepdim=True) / count for one in (x, target))
    x, centred = torch.where(valid, x - middle, 0), torch.where(valid, target - target_middle, 0)
    variance = x.square().sum(dim=dims, keepdim=True) / count
    covariance = (x * centred).sum(dim=dims, keepdim=True) / count
    scale = covariance / torch.where(variance > SMALLEST_DEVIATION**2, variance, torch.inf)
    return scale * x + target_middle


def gradient_sums(x: Tensor, valid: Tensor, *, step: int) -> Tensor:
    """Return the sums of absolute differences between valid pixels ``step`` apart, horizontal and vertical.

    Args:
        x: Tensor of shape Bx1xHxW.
        valid: Bool tensor of this shape.
        step: Distance of the two pixels.

    Returns:
        Tensor of shape B.
    """
    sums = x.new_zeros(len(x))
    for dim in (-2, -1):
        count = max(x.shape[dim] - step, 0)
        both = valid.narrow(dim, step, count) & valid.narrow(dim, 0, count) if count else None
        if both is not None:
            change = (x.narrow(dim, step, count) - x.narrow(dim, 0, count)).abs()
            sums = sums + torch.where(both, change, 0).flatten(1).sum(dim=1)
    return sums
