"""Rows of the table of depth_parity.py, and the reference code that they need."""

import ast
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def not_run(name: str, limit: float, reference: str) -> Row:
    """Return the row of a comparison that needs the clone of a repository."""
    return Row(name, None, limit, f'needs --reference {reference}=PATH')


def rows_of_clones(kind: str, sources: Mapping[str, Callable[[Path], list[Row]]], limit: float) -> list[Row]:
    """Compare with the repositories that are there; the functions of ``sources`` take their folders."""
    found = []
    for name, source in sources.items():
        if name in REFERENCES:
            found += source(REFERENCES[name])
        else:
            found.append(not_run(f'{kind} of {name}', limit, name))
    return found


def definitions(file: Path, names: Collection[str], **scope: Any) -> dict[str, Any]:
    """Execute only the named classes or functions of a file, without decorators.

    The packages of these files need an old mmcv, so they cannot be imported.

    Args:
        file: Path of the file.
        names: Names of the classes or functions, at any depth.
        scope: Modules that their code uses, by name.
    """
    kinds = (ast.ClassDef, ast.FunctionDef)
    tree = ast.walk(ast.parse(file.read_text(encoding='utf-8')))
    nodes = [node for node in tree if isinstance(node, kinds) and node.name in names]
    for node in nodes:
        node.decorator_list = []
    exec(compile(ast.Module(list(nodes), []), str(file), 'exec'), scope)  # noqa: S102
    return scope


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
