"""Curves of trainings: loss, learning rate, mIoU and speed over the iterations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .logs import RunLog

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = (
    ('loss', 'loss'),
    ('lr', 'learning rate'),
    ('mIoU', 'validation mIoU (%)'),
    ('images_per_s', 'images/s'),
)
SMOOTHED = ('loss', 'images_per_s')
WINDOW = 0.03
"""Share of a run that the smoothed line is a mean of."""


def smooth(values: Sequence[float], share: float = WINDOW) -> np.ndarray:
    """Return the running mean over a centred window, narrower at both ends, of values that are finite."""
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
    """Draw what runs logged into one figure, a colour each; the caller saves it with ``savefig``."""
    # Not pyplot: no window, no global state. Imported here, as it takes half a second.
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.5), layout='constrained')
    for place, (key, label) in enumerate(CURVES):
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
                marker = 'o' if key == 'mIoU' else None
                axes.plot(steps, values, color=colour, marker=marker, markersize=4, label=run.name)
        if not axes.lines:
            axes.text(0.5, 0.5, 'not logged', ha='center', va='center', transform=axes.transAxes)
        if key == 'images_per_s' and axes.lines:
            axes.set_ylim(bottom=0)
        axes.set(xlabel='iteration', title=label)
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if len(runs) > 1:
        figure.legend(handles, labels, loc='outside lower center', ncols=3, fontsize=9)
    else:
        figure.suptitle(runs[0].name, fontsize=11)
    return figure
