"""Inject faults into real runs of the tools and compare the outcomes with the expected ones.

Prints a table with the columns fault, expected, seen, verdict. Exit status: 0 if all faults end as expected,
1 if not, 2 for a wrong argument. Progress and the remaining time are printed to stderr.

Example:
    python benchmarks/faults.py --only checkpoints,signals.sigterm
"""

import argparse
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from fault_cases import Fault, all_faults  # noqa: E402

WIDTHS = (38, 56, 56)  # columns fault, expected, seen
Outcome = tuple[Fault, str, bool]
"""A fault, its outcome, and whether the outcome was expected."""


def choose(faults: Sequence[Fault], only: str) -> list[Fault]:
    """Return the faults whose name or subject is in a comma-separated list; an empty list selects all.

    Raises:
        ValueError: If a name matches no fault.
    """
    names = [name for name in only.split(',') if name]
    for name in names:
        if not any(f'{fault.name}.'.startswith(f'{name}.') for fault in faults):
            raise ValueError(f'--only {name}: no such fault; --list shows all faults')
    return [f for f in faults if not names or any(f'{f.name}.'.startswith(f'{name}.') for name in names)]


def inject_all(faults: Sequence[Fault]) -> list[Outcome]:
    """Run the faults in order, each in a new temporary folder; an exception counts as a failure."""
    outcomes: list[Outcome] = []
    start = time.monotonic()
    for done, fault in enumerate(faults):
        elapsed = time.monotonic() - start
        left = f', about {_clock(elapsed / done * (len(faults) - done))} left' if done else ''
        print(f'[{done}/{len(faults)}, {_clock(elapsed)}{left}] {fault.name}', file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix='fault-', ignore_cleanup_errors=True) as folder:
            try:
                seen, holds = fault.run(Path(folder))
            except Exception as error:  # continue with the other faults
                seen, holds = f'{type(error).__name__}: {error}'[:600], False
        outcomes.append((fault, ' '.join(seen.split()), bool(holds)))
    print(f'[{len(faults)}/{len(faults)}, {_clock(time.monotonic() - start)}] done', file=sys.stderr)
    return outcomes


def _clock(seconds: float) -> str:
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def render(outcomes: Sequence[Outcome]) -> str:
    """Return the table, with long cells wrapped, and the number of faults that end as expected."""
    lines = _row('fault', 'expected', 'seen', 'verdict')
    rule = '-' * len(lines[0])
    lines.append(rule)
    for fault, seen, holds in outcomes:
        lines += _row(fault.name, fault.expected, seen, 'holds' if holds else 'FAILS')
    holding = sum(holds for _, _, holds in outcomes)
    return '\n'.join([*lines, rule, f'{holding} of {len(outcomes)} faults end as expected'])


def _row(*cells: str) -> list[str]:
    columns = [textwrap.wrap(cell, width) or [''] for cell, width in zip(cells, WIDTHS, strict=False)]
    lines = []
    for i in range(max(map(len, columns))):
        parts = [
            (column[i] if i < len(column) else '').ljust(width)
            for column, width in zip(columns, WIDTHS, strict=True)
        ]
        lines.append('  '.join([*parts, cells[-1] if i == 0 else '']).rstrip())
    return lines


def main(arguments: Sequence[str] | None = None, faults: Sequence[Fault] | None = None) -> int:
    """Run the faults named on the command line, print the table and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', default='', metavar='NAME,NAME', help='names of faults or subjects')
    parser.add_argument('--list', action='store_true', help='list the faults without running them')
    args = parser.parse_args(arguments)
    try:
        chosen = choose(all_faults() if faults is None else faults, args.only)
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    if args.list:
        print('\n'.join(f'{fault.name:<{WIDTHS[0]}}  {fault.expected}' for fault in chosen))
        return 0
    outcomes = inject_all(chosen)
    print(render(outcomes))
    return 0 if outcomes and all(holds for _, _, holds in outcomes) else 1


if __name__ == '__main__':
    sys.exit(main())
