"""Differences between the arrays of the two sides, and the table of comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        link: Name of the link.
        measure: What was compared, and the unit.
        difference: Measured difference; NaN never holds.
        tolerance: Largest difference that holds.
        note: Additional information, printed below the row.
    """

    link: str
    measure: str
    difference: float
    tolerance: float
    note: str = ''

    @property
    def holds(self) -> bool:
        """Whether the two sides agree."""
        return bool(self.difference <= self.tolerance)


def relative_difference(theirs: np.ndarray, ours: np.ndarray) -> float:
    """Return the largest absolute difference relative to the maximum of ``theirs``; NaN if shapes differ."""
    if theirs.shape != ours.shape:
        return float('nan')
    largest = float(np.abs(theirs).max(initial=0))
    difference = float(np.abs(theirs - ours).max(initial=0))
    return difference / largest if largest else difference


def absolute_difference(theirs: np.ndarray, ours: np.ndarray) -> float:
    """Return the largest absolute difference; infinity if only one side is NaN, NaN if shapes differ."""
    theirs, ours = np.asarray(theirs), np.asarray(ours)
    if theirs.shape != ours.shape:
        return float('nan')
    if np.array_equal(theirs, ours):  # the usual case; avoids double precision copies
        return 0.0
    theirs, ours = theirs.astype(np.float64), ours.astype(np.float64)
    if (np.isnan(theirs) != np.isnan(ours)).any():
        return float('inf')
    return float(np.nanmax(np.abs(theirs - ours), initial=0))


def distance(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray] | None = None) -> float:
    """Return the Euclidean distance of two groups of arrays, or the norm of one; NaN if names differ."""
    if other is not None and set(one) != set(other):
        return float('nan')
    parts = [one[name].astype(np.float64) - (other[name] if other else 0) for name in one]
    return float(np.linalg.norm([np.linalg.norm(part) for part in parts]))


def worst(differences: dict[str, float]) -> tuple[str, float]:
    """Return the name and value of the largest difference; NaN counts as the largest."""
    name = max(differences, key=lambda key: np.inf if np.isnan(differences[key]) else differences[key])
    return name, differences[name]


def count_unequal(theirs: Sequence, ours: Sequence) -> int:
    """Return the number of entries that differ between two sequences or are missing in one of them."""
    unequal = sum(a != b for a, b in zip(theirs, ours, strict=False))
    return unequal + abs(len(theirs) - len(ours))


def part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names start with ``prefix``, without the prefix."""
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def renamed(theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename the peer's parameters as when loading its checkpoints; available only in dpt's environment.

    Raises:
        ValueError: If a name is unknown.
    """
    from dpt.checkpoints.formats import MMSEG_DPT, convert

    ours, report = convert(theirs, MMSEG_DPT)
    if report.unmapped:
        raise ValueError(f'not in the key table: {", ".join(report.unmapped[:5])}')
    return ours


def render(rows: Sequence[Row]) -> str:
    """Return the table, with notes below the rows, and the number of comparisons that hold."""
    width = max((len(row.measure) for row in rows), default=0)
    lines = [f'{"link":<12}{"measure":<{width}}  {"difference":>10}  {"tolerance":>9}  verdict']
    lines.append('-' * len(lines[0]))
    for row in rows:
        verdict = 'holds' if row.holds else 'DIFFERS'
        numbers = f'{row.difference:>10.3g}  {row.tolerance:>9.3g}'
        lines.append(f'{row.link:<12}{row.measure:<{width}}  {numbers}  {verdict}')
        if row.note:
            lines.append(f'{"":<14}{row.note}')
    failed = sum(not row.holds for row in rows)
    lines.append('-' * len(lines[0]))
    lines.append(f'{len(rows) - failed} of {len(rows)} comparisons hold')
    return '\n'.join(lines)


def exit_status(rows: Sequence[Row]) -> int:
    """Return 0 if there are rows and all hold, else 1."""
    return 0 if rows and all(row.holds for row in rows) else 1
