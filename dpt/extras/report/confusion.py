"""Figures of a confusion matrix: which classes are taken for which, and the IoU of each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NUMBERED = 25
"""Classes up to which each cell is labelled with its number."""
NORMALIZED = {'truth': 'of the true pixels', 'prediction': 'of the predicted pixels'}


def shares(confusion: np.ndarray, normalize: str = 'truth') -> np.ndarray:
    """Turn pixel counts into per cent of each row (``'truth'``) or column (``'prediction'``); NaN for 0 / 0.

    Raises:
        ValueError: If ``normalize`` is neither.
    """
    if normalize not in NORMALIZED:
        raise ValueError(f'normalize={normalize!r} must be one of {tuple(NORMALIZED)}')
    sums = confusion.sum(axis=1 if normalize == 'truth' else 0, keepdims=True)
    with np.errstate(invalid='ignore'):
        return 100 * confusion / np.where(sums, sums, np.nan)


def draw_confusion(confusion: np.ndarray, classes: Sequence[str], normalize: str = 'truth') -> 'Figure':
    """Draw a confusion matrix in per cent.

    Args:
        confusion: Pixel counts of shape KxK; rows are the truth, columns the prediction.
        classes: Names of the K classes.
        normalize: What a hundred per cent are: ``'truth'`` (the diagonal is the recall) or ``'prediction'``
            (it is the precision).
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
    axes.set(xlabel='prediction', ylabel='truth', title=f'confusion in per cent {NORMALIZED[normalize]}')
    if len(classes) <= MOST_NUMBERED:
        for row, column in np.argwhere(values >= 0.5):
            value = values[row, column]
            colour = 'white' if value > 55 else 'black'
            axes.text(column, row, f'{value:.0f}', ha='center', va='center', fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.7)
    return figure


def draw_class_bars(classes: Sequence[str], values: Sequence[float | None], label: str = 'IoU') -> 'Figure':
    """Draw a bar for each class, the best on top, and the mean; classes without a score come last.

    Args:
        classes: Names of the K classes.
        values: Scores in per cent; None or NaN for a class without.
        label: What they are.
    """
    from matplotlib.figure import Figure

    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    order = np.argsort(np.where(np.isnan(numbers), -1, numbers), kind='stable')
    figure = Figure(figsize=(8, min(max(1.5 + 0.28 * len(classes), 3), 45)), layout='constrained')
    axes = figure.add_subplot()
    axes.barh(range(len(order)), np.nan_to_num(numbers[order]), color='#3b6ea5')
    for place, k in enumerate(order):
        text = 'in neither truth nor prediction' if np.isnan(numbers[k]) else f'{numbers[k]:.1f}'
        axes.text(np.nan_to_num(numbers[k]) + 0.8, place, text, va='center', fontsize=8)
    axes.set_yticks(range(len(order)), [classes[k] for k in order], fontsize=9)
    axes.set(xlim=(0, 108), ylim=(-0.6, len(order) - 0.4), xlabel=f'{label} (%)')
    if not np.isnan(numbers).all():
        mean = float(np.nanmean(numbers))
        axes.axvline(mean, color='#b03030', linewidth=1, label=f'mean {mean:.2f}')
        axes.legend(loc='lower right', fontsize=9)
    return figure


def worst_confusions(confusion: np.ndarray, classes: Sequence[str], number: int = 10) -> list[tuple]:
    """Return the pairs that cost most pixels: truth, prediction, per cent of the truth's, of all errors."""
    wrong = confusion.astype(np.float64)
    np.fill_diagonal(wrong, 0)
    of_truth, total = shares(confusion), max(wrong.sum(), 1)
    order = np.argsort(-wrong, axis=None, kind='stable')[:number]
    pairs = [divmod(int(place), len(classes)) for place in order if wrong.flat[place]]
    return [(classes[i], classes[j], of_truth[i, j], 100 * wrong[i, j] / total) for i, j in pairs]
