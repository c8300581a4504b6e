"""Figures of a training and its test: curves, confusion matrix, IoU per class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dpt.extras.logs import RunLog

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# pyplot is not used because it has global state. matplotlib is imported late: it takes half a second.

CURVES = {'loss': 'loss', 'lr': 'learning rate', 'score': '', 'images_per_s': 'images/s'}
SCORE_TITLES = {'mIoU': 'validation mIoU (%)', 'abs_rel': 'validation AbsRel', 'd1': 'validation d1'}
SMOOTHED = ('loss', 'images_per_s')
WINDOW = 0.03
"""Width of the smoothing window as a share of the run."""
MOST_NUMBERED = 25
"""Maximum number of classes for which the cells of a matrix show their values."""
WORST = 10
"""Number of pairs of confused classes to list."""
NORMALIZED = {'truth': 'of the true pixels', 'prediction': 'of the predicted pixels'}


def smooth(values: Sequence[float], share: float = WINDOW) -> np.ndarray:
    """Return the running mean of the finite values over a centred window, which shrinks at both ends."""
    numbers = np.asarray(values, np.float64)
    half = int(share * len(numbers)) // 2
    known = np.isfinite(numbers)
    sums = np.concatenate([[0], np.cumsum(np.where(known, numbers, 0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    middle = np.arange(len(numbers))
    reach = np.minimum(half, np.minimum(middle, len(numbers) - 1 - middle))
    low, high = middle - reach, middle + reach + 1
    with np.errstate(invalid='ignore'):
        return (sums[high] - sums[low]) / (counts[high] - counts[low])


def draw_curves(runs: Sequence[RunLog]) -> 'Figure':
    """Draw loss, learning rate, score and speed of runs in one figure, with one colour per run.

    The score is that by which the first run is judged.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.5), layout='constrained')
    score = runs[0].score()
    for place, (key, label) in enumerate(CURVES.items()):
        if key == 'score':
            key, label = score, SCORE_TITLES[score]
        axes = figure.add_subplot(2, 2, place + 1)
        for i, run in enumerate(runs):
            colour = colormaps['tab10'](i % 10)
            steps, values = run.series(key)
            if not steps:
                continue
            if key in SMOOTHED:
                axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
                axes.plot(steps, smooth(values), color=colour, linewidth=1.6, label=run.name)
            else:
                marker = 'o' if key == score else None
                axes.plot(steps, values, color=colour, marker=marker, markersize=4, label=run.name)
        if not axes.lines:
            axes.text(0.5, 0.5, 'not logged', ha='center', va='center', transform=axes.transAxes)
        elif key == 'images_per_s':
            axes.set_ylim(bottom=0)
        axes.set(xlabel='iteration', title=label)
        axes.grid(alpha=0.3)
    if len(runs) > 1:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc='outside lower center', ncols=3, fontsize=9)
    else:
        figure.suptitle(runs[0].name, fontsize=11)
    return figure


def shares(confusion: np.ndarray, normalize: str = 'truth') -> np.ndarray:
    """Return pixel counts in per cent of their row (``'truth'``) or column (``'prediction'``); 0 / 0 is NaN.

    Raises:
        ValueError: If ``normalize`` is neither of these.
    """
    if normalize not in NORMALIZED:
        raise ValueError(f'normalize={normalize!r} must be one of {tuple(NORMALIZED)}')
    sums = confusion.sum(axis=1 if normalize == 'truth' else 0, keepdims=True)
    with np.errstate(invalid='ignore'):
        return 100 * confusion / np.where(sums, sums, np.nan)


def draw_confusion(confusion: np.ndarray, classes: Sequence[str], normalize: str = 'truth') -> 'Figure':
    """Draw a confusion matrix in per cent.

    Args:
        confusion: Pixel counts of shape KxK; rows are the ground truth, columns the prediction.
        classes: Names of the K classes.
        normalize: ``'truth'`` to make rows sum to 100 (the diagonal is the recall), ``'prediction'`` to make
            columns sum to 100 (the diagonal is the precision).
    """
    from matplotlib.figure import Figure

    values = shares(confusion, normalize)
    size = min(max(4 + 0.42 * len(classes), 6), 40)
    figure = Figure(figsize=(size + 1, size), layout='constrained')
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap='Blues', vmin=0, vmax=100)
    places, fontsize = range(len(classes)), 9 if len(classes) <= MOST_NUMBERED else 7
    axes.set_xticks(places, classes, rotation=90, fontsize=fontsize)
    axes.set_yticks(places, classes, fontsize=fontsize)
    axes.set(
        xlabel='prediction', ylabel='ground truth', title=f'confusion in per cent {NORMALIZED[normalize]}'
    )
    if len(classes) <= MOST_NUMBERED:
        for row, column in np.argwhere(values >= 0.5):
            value = values[row, column]
            colour = 'white' if value > 55 else 'black'
            axes.text(column, row, f'{value:.0f}', ha='center', va='center', fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.7)
    return figure


def draw_class_bars(classes: Sequence[str], values: Sequence[float | None]) -> 'Figure':
    """Draw a bar per class, with the best on top and classes without a score last, and the mean.

    Args:
        classes: Names of the K classes.
        values: IoU in per cent; None or NaN for a class without one.
    """
    from matplotlib.figure import Figure

    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    order = np.argsort(np.where(np.isnan(numbers), -1, numbers), kind='stable')
    figure = Figure(figsize=(8, min(max(1.5 + 0.28 * len(classes), 3), 45)), layout='constrained')
    axes = figure.add_subplot()
    axes.barh(range(len(order)), np.nan_to_num(numbers[order]), color='#3b6ea5')
    for place, k in enumerate(order):
        text = 'in neither ground truth nor prediction' if np.isnan(numbers[k]) else f'{numbers[k]:.1f}'
        axes.text(np.nan_to_num(numbers[k]) + 0.8, place, text, va='center', fontsize=8)
    axes.set_yticks(range(len(order)), [classes[k] for k in order], fontsize=9)
    axes.set(xlim=(0, 108), ylim=(-0.6, len(order) - 0.4), xlabel='IoU (%)')
    if not np.isnan(numbers).all():
        mean = float(np.nanmean(numbers))
        axes.axvline(mean, color='#b03030', linewidth=1, label=f'mean {mean:.2f}')
        axes.legend(loc='lower right', fontsize=9)
    return figure


def worst_confusions(confusion: np.ndarray, classes: Sequence[str]) -> list[tuple]:
    """Return the :data:`WORST` pairs of classes with the most wrong pixels.

    Returns:
        Tuples of true class, predicted class, per cent of the pixels of the true class, per cent of all
        errors.
    """
    wrong = confusion.astype(np.float64)
    np.fill_diagonal(wrong, 0)
    of_truth, total = shares(confusion), max(wrong.sum(), 1)
    order = np.argsort(-wrong, axis=None, kind='stable')[:WORST]
    pairs = [divmod(int(place), len(classes)) for place in order if wrong.flat[place]]
    return [(classes[i], classes[j], of_truth[i, j], 100 * wrong[i, j] / total) for i, j in pairs]
