"""Losses of depth, value and gradient, against short formulas and the code of the original repositories.

The formulas take the valid pixels of one image, in float64, as one after the other as the papers write them.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from depth_chain.table import REFERENCES, Row, not_run
from dpt.registry import MODELS

LIMIT = 1e-5
"""Of the value, and of the largest gradient."""

TOOLBOX = dict(variance_focus=0.85, per_image=False, unbiased=True, eps=1e-3, add_eps=True)
"""``SiLogLoss`` of the Monocular-Depth-Estimation-Toolbox, DINOv2 and DINOv3."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From prediction, target and valid pixels, each of shape Bx1xHxW."""


def batch(relative: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return predictions, targets and valid pixels of three images; one has few, with holes in all."""
    generator = torch.Generator().manual_seed(0)
    target = 0.5 + 9 * torch.rand(3, 1, 22, 29, generator=generator, dtype=torch.float64)
    noise = torch.rand(target.shape, generator=generator, dtype=torch.float64)
    valid = torch.rand(target.shape, generator=generator) < 0.7
    valid[1, :, 3:] = False
    pred = (2 / target if relative else target) * (0.5 + noise) + 0.1
    return pred, torch.where(valid, target, 0), valid


def mean_of_images(loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Return the mean over the images of a loss of the valid pixels, each of shape N."""

    def mean(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        images = zip(pred, target, valid, strict=True)
        return torch.stack([loss(p[v], t[v]) for p, t, v in images]).mean()

    return mean


def silog(pred: Tensor, target: Tensor) -> Tensor:
    """Eigen's loss as in MMSegmentation and Depth Anything V2."""
    d = target.log() - pred.log()
    return ((d**2).mean() - 0.5 * d.mean() ** 2).sqrt()


def silog_of_toolbox(pred: Tensor, target: Tensor, warm_up: bool = False) -> Tensor:
    """The same in the Monocular-Depth-Estimation-Toolbox."""
    d = (pred + 1e-3).log() - (target + 1e-3).log()
    return (0.15 * d.mean() ** 2 + (0 if warm_up else d.var())).sqrt()


def gradient_log(pred: Tensor, target: Tensor, valid: Tensor, strides: tuple[int, ...]) -> Tensor:
    """MegaDepth's loss, pixel by pixel."""
    total = pred.new_zeros(())
    for stride in strides:
        d = ((pred + 1e-3).log() - (target + 1e-3).log())[:, 0, ::stride, ::stride]
        mask = valid[:, 0, ::stride, ::stride]
        found = mask.new_zeros((), dtype=torch.float64)
        for image, own in zip(d, mask, strict=True):
            for (y, x), there in [(at, bool(own[tuple(at)])) for at in torch.ones_like(own).nonzero()]:
                for other in ((y + 2, x), (y, x + 2)):
                    inside = other[0] < own.shape[0] and other[1] < own.shape[1]
                    if there and inside and own[other]:
                        found = found + (image[y, x] - image[other]).abs()
        total = total + found / mask.sum()
    return total


def aligned_by_median(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 6 and 7 of MiDaS."""
    shifted = [x - x.median() for x in (pred, target)]
    pred, target = (x / x.abs().mean() for x in shifted)
    return pred, target


def aligned_by_least_squares(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 3 and 4 of MiDaS."""
    columns = torch.stack([pred, torch.ones_like(pred)], dim=1)
    return columns @ torch.linalg.solve(columns.T @ columns, columns.T @ target), target


def scale_shift_invariant(
    align: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], power: int, trim: float, weight: float
) -> Loss:
    """Equations 5, 8, 9 and 11 of MiDaS, from depth."""

    def loss(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        images = []
        for p, t, v in zip(pred[:, 0], target[:, 0], valid[:, 0], strict=True):
            r = p.new_zeros(p.shape)
            ours, theirs = align(p[v], 1 / t[v])
            r = r.masked_scatter(v, ours - theirs)
            errors = (r[v].abs() ** power).sort().values[: int((1 - trim) * v.sum())]
            value = errors.sum() / (2 * v.sum())
            for step in (1, 2, 4, 8):
                s, m = r[::step, ::step], v[::step, ::step]
                across = ((s[:, 1:] - s[:, :-1]).abs() * (m[:, 1:] & m[:, :-1])).sum()
                down = ((s[1:] - s[:-1]).abs() * (m[1:] & m[:-1])).sum()
                value = value + weight * (across + down) / m.sum().clamp(min=1)
            images.append(value)
        return torch.stack(images).mean()

    return loss


CASES: tuple[tuple[str, dict, Loss], ...] = (
    ('SiLog, mean of images (MMSegmentation)', dict(type='SiLogLoss'), mean_of_images(silog)),
    (
        'SiLog, pixels of the batch (Depth Anything V2)',
        dict(type='SiLogLoss', per_image=False),
        lambda pred, target, valid: silog(pred[valid], target[valid]),
    ),
    (
        'SiLog of the toolbox',
        dict(TOOLBOX, type='SiLogLoss'),
        lambda pred, target, valid: silog_of_toolbox(pred[valid], target[valid]),
    ),
    (
        'SiLog of the toolbox, warming up',
        dict(TOOLBOX, type='SiLogLoss', warm_up_iters=1),
        lambda pred, target, valid: silog_of_toolbox(pred[valid], target[valid], warm_up=True),
    ),
    (
        'gradient of log depth (MegaDepth)',
        dict(type='GradientLogLoss'),
        lambda pred, target, valid: gradient_log(pred, target, valid, (1, 2, 4, 8)),
    ),
    (
        'scale-and-shift-invariant, median, trimmed (MiDaS)',
        dict(type='ScaleShiftInvariantLoss'),
        scale_shift_invariant(aligned_by_median, 1, 0.2, 0.5),
    ),
    (
        'scale-and-shift-invariant, least squares (MiDaS)',
        dict(type='ScaleShiftInvariantLoss', alignment='least_squares', trim=0.0),
        scale_shift_invariant(aligned_by_least_squares, 2, 0.0, 0.5),
    ),
)
"""Name, config and formula."""


def difference(config: dict, expected: Loss) -> float:
    """Return the larger of the relative differences of the value and of the gradient."""
    pred, target, valid = batch(relative=config['type'] == 'ScaleShiftInvariantLoss')
    ours, theirs = (pred.clone().requires_grad_() for _ in range(2))
    value = MODELS.build(config)(ours, target, valid)
    wanted = expected(theirs, target, valid)
    value.backward()
    wanted.backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    gradients = (ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()
    return max(((value - wanted).abs() / wanted).item(), gradients.item())


def _from_dinov3() -> Iterator[tuple[str, dict, Loss]]:
    from depth_chain.originals import importing

    with importing('dinov3', 'dinov3'):
        from dinov3.eval.depth.loss import GradientLogLoss, SigLoss
    yield 'SigLoss of DINOv3', dict(TOOLBOX, type='SiLogLoss'), SigLoss(warm_up=False)
    warm = dict(TOOLBOX, type='SiLogLoss', warm_up_iters=100)
    yield 'SigLoss of DINOv3, warming up', warm, SigLoss()
    strides = dict(type='GradientLogLoss', strides=(1, 2, 4, 6))
    yield 'GradientLogLoss of DINOv3', strides, GradientLogLoss()


def _from_depth_anything() -> Iterator[tuple[str, dict, Loss]]:
    from depth_chain.originals import importing

    with importing('depth-anything-v2', 'util', folder='metric_depth'):
        from util.loss import SiLogLoss
    yield 'SiLogLoss of Depth Anything V2', dict(type='SiLogLoss', per_image=False), SiLogLoss()


def rows() -> list[Row]:
    """Compare every loss; without a clone its original code is listed as not run."""
    found = [Row(f'loss: {name}', difference(*case), LIMIT) for name, *case in CASES]
    for clone, cases in (('dinov3', _from_dinov3), ('depth-anything-v2', _from_depth_anything)):
        if clone in REFERENCES:
            found += [Row(f'loss: {name}', difference(*case), LIMIT) for name, *case in cases()]
        else:
            found.append(not_run(f'loss: code of {clone}', LIMIT, clone))
    return found
