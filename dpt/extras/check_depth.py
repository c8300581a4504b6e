"""Statistics of depth files, and signs of wrong units."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dpt.datasets.depth import FARTHEST, explain_scale

EDGES = tuple(factor * 10.0**power for power in range(-3, 5) for factor in (1, 2, 5))
"""Limits of the bins of the histogram, in the unit of the data set."""
NEAREST = 0.05
"""Median depth in metres below which files are likely to be read with the wrong factor."""
FEW_IMAGES = 5
"""Number of images below which nothing is said about what most of them have in common."""
MOST = 0.8
FEWEST_PIXELS = 0.01
"""Share of measured pixels below which an image is reported."""
MARKERS = (255, 65535)
"""Largest numbers of 8 and 16 bits, which some files contain where nothing was measured."""
BAR = 40
"""Length of the longest bar of the histogram."""


@dataclass(frozen=True)
class DepthRecord:
    """Statistics of a depth map.

    Attributes:
        measured: Share of measured pixels.
        low: Percentile 1 of the measured depth, in the unit of the data set.
        middle: Median.
        high: Percentile 99.
        counts: Number of pixels in each bin between two ``EDGES``; the outer ones include what is beyond.
        below: Median of the lowest quarter of the picture divided by that of the upper half; None if either
            has no depth.
        marker: One of ``MARKERS`` if it is the largest number in the file and fills 1 % of it; else None.
        coarse: Whether the file has at most 256 different whole numbers up to 255, as 8 bits have.
    """

    measured: float
    low: float
    middle: float
    high: float
    counts: tuple[int, ...]
    below: float | None
    marker: int | None
    coarse: bool

    @classmethod
    def of(cls, values: np.ndarray, depth: np.ndarray) -> 'DepthRecord':
        """Summarise a map.

        Args:
            values: Numbers in the file, of shape HxW.
            depth: Depth in the unit of the data set, of shape HxW, 0 where nothing was measured.
        """
        known = depth[depth > 0]
        low, middle, high = np.percentile(known, (1, 50, 99)).tolist()
        counts = np.histogram(known.clip(EDGES[0], EDGES[-1]), EDGES)[0]
        height = len(depth)
        top, bottom = depth[: height // 2], depth[height - height // 4 :]
        both = (top > 0).any() and (bottom > 0).any()
        largest = values.max()
        return cls(
            known.size / depth.size,
            low,
            middle,
            high,
            tuple(counts.tolist()),
            float(np.median(bottom[bottom > 0]) / np.median(top[top > 0])) if both else None,
            int(largest) if largest in MARKERS and (values == largest).mean() > 0.01 else None,
            bool(largest <= 255 and (values == np.rint(values)).all()),
        )


def faults_of(records: Sequence[DepthRecord], path: str, factor: float) -> list[tuple[str, str]]:
    """Return the kind and message of what is wrong with the depth of a data set as a whole.

    Args:
        records: Statistics of all maps.
        path: A depth file, for the messages.
        factor: ``depth_rescale_factor`` of the data set.
    """
    middle = float(np.median([one.middle for one in records]))
    found = []
    if middle > FARTHEST:
        found.append(('depth too large', explain_scale(path, middle, factor)))
    if middle < NEAREST:
        message = (
            f'depth files such as {path} have a median depth of {middle:.2g} m with '
            f'depth_rescale_factor={factor:g}: if they are in metres, set depth_rescale_factor=1; if they '
            'are inverse depth or disparity, convert them to depth'
        )
        found.append(('depth too small', message))
    if all(one.low == one.high for one in records):
        found.append(('depth constant', f'each depth file, such as {path}, has the same depth everywhere'))
    return found


def notes_of(records: Sequence[DepthRecord], path: str, invalid: float | None) -> list[tuple[str, str]]:
    """Return the kind and message of what looks unusual in the depth of a data set, as :func:`faults_of`.

    Args:
        records: Statistics of all maps.
        path: A depth file, for the messages.
        invalid: ``invalid_value`` of the data set.
    """
    found, ratios = [], [one.below for one in records if one.below is not None]
    if len(ratios) >= FEW_IMAGES and np.mean(np.array(ratios) > 1) >= MOST:
        message = (
            f'in {np.mean(np.array(ratios) > 1):.0%} of the images, depth such as {path} is larger at the '
            'bottom of the picture than in its upper half, though the ground is usually nearer: are these '
            'files inverse depth or disparity? Convert them to depth: depth = focal length x baseline / '
            'disparity, or 1 / inverse depth'
        )
        found.append(('may be inverse depth', message))
    markers = {one.marker for one in records} - {None, invalid}
    for marker in sorted(filter(None, markers)):
        message = (
            f'{marker}, the largest number of the format, fills more than 1 % of files such as {path}: if it '
            f"means 'no measurement', set invalid_value={marker}"
        )
        found.append(('may mean no measurement', message))
    if all(one.coarse for one in records):
        found.append(('coarse depth', f'files such as {path} have at most 256 levels, as pictures have'))
    return found


def summary(records: Sequence[DepthRecord]) -> dict:
    """Return the statistics of a data set as plain values."""
    columns = {name: [asdict(one)[name] for one in records] for name in ('measured', 'low', 'middle', 'high')}
    return dict(
        measured=float(np.mean(columns['measured'])),
        low=float(np.min(columns['low'])),
        median=float(np.median(columns['middle'])),
        high=float(np.max(columns['high'])),
        edges=list(EDGES),
        counts=np.sum([one.counts for one in records], axis=0).tolist(),
    )


def histogram(found: dict) -> list[str]:
    """Return the lines of a report on what :func:`summary` returns."""
    lines = [
        f'depth {found["low"]:.3g} to {found["high"]:.3g} m (1 to 99 % of each image), median '
        f'{found["median"]:.3g} m; {found["measured"]:.1%} of the pixels measured'
    ]
    counts, edges = np.array(found['counts']), found['edges']
    used = np.flatnonzero(counts)
    for i in range(used[0], used[-1] + 1) if used.size else ():
        share = counts[i] / counts.sum()
        bar = '#' * round(BAR * counts[i] / counts.max())
        lines.append(f'{edges[i]:>8g} to {edges[i + 1]:<6g} m {share:>7.1%}  {bar}'.rstrip())
    return lines
