"""Rows of the table of depth_parity.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REFERENCES: dict[str, Path] = {}
"""Folders of repositories with reference code, by name; filled by ``--reference NAME=PATH``."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        name: What was compared, and the unit of the difference.
        difference: Measured difference; NaN never holds. None if the comparison was not run.
        limit: Largest difference that holds.
        note: Additional information, printed below the row; the reason if the comparison was not run.
    """

    name: str
    difference: float | None
    limit: float
    note: str = ''

    @property
    def verdict(self) -> str:
        """``'holds'``, ``'DIFFERS'`` or ``'not run'``."""
        if self.difference is None:
            return 'not run'
        return 'holds' if self.difference <= self.limit else 'DIFFERS'


def render(rows: Sequence[Row]) -> str:
    """Return the table, with notes below the rows, and the number of comparisons that hold."""
    width = max((len(row.name) for row in rows), default=0)
    lines = [f'{"comparison":<{width}}  {"difference":>10}  {"limit":>7}  verdict']
    lines.append('-' * len(lines[0]))
    for row in rows:
        difference = '-' if row.difference is None else f'{row.difference:.3g}'
        lines.append(f'{row.name:<{width}}  {difference:>10}  {row.limit:>7.2g}  {row.verdict}')
        if row.note:
            lines.append(f'    {row.note}')
    verdicts = [row.verdict for row in rows]
    lines.append('-' * len(lines[0]))
    run = len(rows) - verdicts.count('not run')
    lines.append(f'{verdicts.count("holds")} of {run} comparisons hold, {len(rows) - run} not run')
    return '\n'.join(lines)


def exit_status(rows: Sequence[Row]) -> int:
    """Return 0 if at least one comparison was run and all that were run hold, else 1."""
    verdicts = {row.verdict for row in rows}
    return 0 if 'holds' in verdicts and 'DIFFERS' not in verdicts else 1
