"""Scores of one depth map, evaluation crops, and the alignment of predictions with the truth."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SCORES = (
    *('d1', 'd2', 'd3', 'abs_rel', 'sq_rel', 'rmse', 'rmse_log', 'log10'),
    *('silog', 'silog_kitti'),
)
"""Names of the scores that :func:`depth_scores` returns."""

ALIGNMENTS = ('median', 'least_squares', 'least_squares_disparity')

Box = tuple[int, int, int, int]
"""Top, bottom, left, right; bottom and right are exclusive."""


def _shares(top: float, bottom: float, left: float, right: float) -> Callable[[int, int], Box]:
    return lambda height, width: (
        *(int(top * height), int(bottom * height)),
        *(int(left * width), int(right * width)),
    )


def _bottom_centre(height: int, width: int) -> Box:
    top, left = height - 352, int((width - 1216) / 2)
    if top < 0 or left < 0:
        raise ValueError(f'kb_crop needs 352x1216 pixels (height x width), the truth has {height}x{width}')
    return top, height, left, left + 1216


CROPS: dict[str, Callable[[int, int], Box]] = {
    # Rows 45 to 470 and columns 41 to 600 of 480x640; other sizes in proportion, as in DINOv3.
    'nyu_crop': lambda height, width: (
        *(45 * height // 480, 471 * height // 480),
        *(41 * width // 640, 601 * width // 640),
    ),
    'kb_crop': _bottom_centre,
    'garg_crop': _shares(0.40810811, 0.99189189, 0.03594771, 0.96405229),
    'eigen_crop': _shares(0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
"""Window of each crop in a map of a height and width."""


def crop_window(names: Sequence[str], height: int, width: int) -> Box:
    """Return the window of crops that follow each other, such as ``kb_crop`` and ``garg_crop``."""
    top, left = 0, 0
    for name in names:
        first, last, begin, end = CROPS[name](height, width)
        top, left, height, width = top + first, left + begin, last - first, end - begin
    return top, top + height, left, left + width


def align(prediction: Tensor, truth: Tensor, method: str, inverse: bool = False) -> Tensor:
    """Return depth that fits the truth as well as the method allows.

    Args:
        prediction: Predicted values of shape N, depth or (``inverse``) inverse depth.
        truth: True depth of shape N, above 0.
        method: ``'median'`` multiplies depth so that the medians agree. ``'least_squares'`` fits scale and
            shift of depth, ``'least_squares_disparity'`` of inverse depth, to that of the truth.
        inverse: Whether predictions are inverse depth.

    Returns:
        Depth of shape N, in which values that are not positive after a fit in inverse depth are infinite.
    """
    if method == 'least_squares_disparity':
        disparity = _fit(prediction if inverse else 1 / prediction, 1 / truth)
        return torch.where(disparity > 0, 1 / disparity, torch.inf).to(prediction)
    depth = 1 / prediction if inverse else prediction
    if method == 'median':
        return depth * (_median(truth) / _median(depth))
    return _fit(depth, truth).to(prediction)


def _median(values: Tensor) -> Tensor:
    """Return the mean of the two middle values if their number is even, unlike torch."""
    ordered = values.sort().values
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _fit(x: Tensor, y: Tensor) -> Tensor:
    """Return ``scale * x + shift`` with the least squared difference from ``y``, in double precision."""
    x, y = x.cpu().double(), y.cpu().double()
    spread = x - x.mean()
    variance = spread.square().sum()
    scale = (spread * y).sum() / variance if variance > 0 else variance
    return scale * spread + y.mean()


def depth_scores(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return the scores of an image in the order of :data:`SCORES`.

    With d the difference of the logarithms: ``rmse_log`` is the root of the mean of d^2; ``silog`` that of
    ``mean(d^2) - 0.5 mean(d)^2`` (MMSegmentation, Depth Anything); ``silog_kitti`` 100 times the standard
    deviation of d (KITTI's benchmark, the Monocular-Depth-Estimation-Toolbox, DINOv3). Of ``d1`` to ``d3``
    more is better, of all others less.

    Args:
        prediction: Predicted depth of the valid pixels, of shape N.
        truth: True depth, above 0, of shape N.
    """
    ratio = torch.maximum(truth / prediction, prediction / truth)
    difference = prediction - truth
    logs = prediction.log() - truth.log()  # NaN for negative predictions, infinite for 0
    squared, mean = logs.square().mean(), logs.mean()
    variance = (logs - mean).square().mean()  # mean(d^2) - mean(d)^2 would cancel digits
    # A negative prediction is wrong by any factor.
    within = [((ratio < 1.25**power) & (prediction > 0)).float().mean() for power in (1, 2, 3)]
    scores = [
        *within,
        (difference.abs() / truth).mean(),
        (difference.square() / truth).mean(),
        difference.square().mean().sqrt(),
        squared.sqrt(),
        (prediction.log10() - truth.log10()).abs().mean(),
        (variance + 0.5 * mean.square()).sqrt(),
        100 * variance.sqrt(),
    ]
    return torch.stack(scores)
