"""Inject faults into real runs of the tools and compare the outcomes with the expected ones.

Prints what was expected and seen for each fault. Exit status: 0 if all faults end as expected, 1 if not, 2
for a wrong argument. Progress is printed to stderr.

Example:
    python benchmarks/faults.py --only checkpoints,signals.torchrun
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from fault_cases import Fault, all_faults  # noqa: E402


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


def inject_all(faults: Sequence[Fault]) -> bool:
    """Run the faults in order, each in a new temporary folder, and print the outcomes.

    An exception counts as a failure. Returns whether there are faults and all end as expected.
    """
    holding, start = 0, time.monotonic()
    for done, fault in enumerate(faults):
        print(
            f'[{done}/{len(faults)}, {time.monotonic() - start:.0f} s] {fault.name}',
            file=sys.stderr,
            flush=True,
        )
        with tempfile.TemporaryDirectory(prefix='fault-', ignore_cleanup_errors=True) as folder:
            try:
                seen, holds = fault.run(Path(folder))
            except Exception as error:  # continue with the other faults
                seen, holds = f'{type(error).__name__}: {error}'[:600], False
        holding += holds
        seen = ' '.join(seen.split())
        print(
            f'{fault.name}: {"holds" if holds else "FAILS"}\n  expected  {fault.expected}\n  seen      {seen}'
        )
    print(f'{holding} of {len(faults)} faults end as expected')
    return 0 < len(faults) == holding


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
        print('\n'.join(f'{fault.name:<38}  {fault.expected}' for fault in chosen))
        return 0
    return 0 if inject_all(chosen) else 1


if __name__ == '__main__':
    sys.exit(main())
