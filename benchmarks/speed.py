"""Compare speed and memory with MMSegmentation, alternating between the two and reporting medians.

Example:
    bash benchmarks/setup_peer.sh /tmp/peer
    python benchmarks/speed.py --peer-python /tmp/peer/bin/python

Prints a table with the columns what, ours, reference, ratio, limit, verdict. The exit status is 0 only if
every row holds. All rows take 10 to 25 minutes on two cores; ``--rows metric,pipeline`` selects some of them.
On a shared machine, ``--clock cpu --threads 1`` measures CPU time instead of wall time.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MIB = 'MiB'


@dataclass(frozen=True)
class Row:
    """A row of the table, its number of rounds and its limits.

    ``time_ratio`` limits the time of dpt relative to the reference. If ``seconds`` is set, only dpt is
    measured.
    """

    name: str
    what: str
    rounds: int
    time_ratio: float | None
    memory_ratio: float | None = None
    seconds: float | None = None


ROWS = (
    Row('train-step', 'training step, ViT-B, 512x512, batch 1', 3, 1.0),
    Row('predict', 'whole-image prediction, 512x683', 3, 0.85),
    Row('tta', '6 scales x flip, one image', 1, 0.85, 0.25),
    Row('restore', 'logits to labels at the original size, 512x683', 5, 0.5),
    Row('pipeline', 'training pipeline, one process, ADE20K sizes', 5, 0.45),
    Row('metric', 'metric, 512x683, 150 classes', 5, 0.1),
    Row('kept', 'kept for the backward pass, one more image, bf16', 1, None, 0.6),
    Row('kept-cp', '  with_cp=True, against the reference without', 1, None, 0.35),
    Row('loop', 'loop, hooks and checks, an iteration', 3, None, seconds=0.25e-3),
    Row('resume', 'resume at iteration 100,000, to the first step', 3, None, seconds=3.0),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--peer-python', required=True, help='Python of the environment with MMSegmentation')
    parser.add_argument('--rows', default=','.join(row.name for row in ROWS), help='comma-separated names')
    parser.add_argument('--threads', type=int, default=2, help='threads of each process (default: 2)')
    parser.add_argument(
        '--clock', choices=('wall', 'cpu'), default='wall', help='measure wall time or CPU time'
    )
    parser.add_argument('--rounds', type=int, help='rounds of every row (default: 1 to 5, by row)')
    parser.add_argument('--json', metavar='FILE', help='write all measurements to this file')
    return parser.parse_args()


class WorkerError(SystemExit):
    """A worker failed or took too long; ends a script that does not catch it."""


def run_worker(
    python: str, script: str, arguments: list[str], timeout: float | None = None, **environment: str
) -> dict:
    """Run a worker script of this folder in a new process; return the JSON in its last line of output.

    Raises:
        WorkerError: If the worker fails or takes longer than ``timeout`` seconds.
    """
    variables = dict(os.environ, PYTHONWARNINGS='ignore', **environment)
    if python != sys.executable:
        variables.pop('PYTHONPATH', None)
    command = [python, str(HERE / script), *arguments]
    worker = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
        start_new_session=True,
    )
    try:
        output, errors = worker.communicate(timeout=timeout)
    except BaseException as error:  # also Ctrl-C
        os.killpg(worker.pid, signal.SIGKILL)  # with processes that load data or compile
        worker.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise WorkerError(f'{" ".join(command)} took longer than {timeout:.0f} s') from None
        raise
    if worker.returncode:
        raise WorkerError(f'{" ".join(command)} failed:\n{errors[-3000:]}')
    return json.loads(output.strip().splitlines()[-1])


def measure(side: str, row: Row, args: argparse.Namespace, data: str) -> dict:
    """Measure one row for one side, ``'dpt'`` or ``'mmseg'``."""
    python = sys.executable if side == 'dpt' else args.peer_python
    arguments = [side, row.name, '--threads', str(args.threads), '--clock', args.clock, '--data', data]
    return run_worker(python, 'speed_worker.py', arguments, OMP_NUM_THREADS=str(args.threads))


def compare(row: Row, ours: list[dict], reference: list[dict]) -> tuple[list[str], bool]:
    """Return the lines of a row, and whether it holds."""
    if row.seconds is not None:
        seconds = statistics.median(result['seconds'] for result in ours)
        verdict = 'holds' if seconds <= row.seconds else 'FAILS'
        factor, unit = (1e3, 'ms') if row.seconds < 1 else (1, 's')
        shown, most = f'{factor * seconds:.{3 if factor > 1 else 2}f}', f'{factor * row.seconds:.2f} {unit}'
        line = f'{row.what:<50}{shown:>10}{"-":>12} {unit:<4}{"-":>8}{most:>9}  {verdict}'
        return [line], seconds <= row.seconds
    lines, holds = [], True
    limits = (('seconds', row.time_ratio, 's'), ('added_mib', row.memory_ratio, MIB))
    for key, limit, unit in limits:
        if limit is None:
            continue
        one, other = (statistics.median(result[key] for result in side) for side in (ours, reference))
        ratio = one / other
        holds &= ratio <= limit
        if unit == 's' and other < 1:
            one, other, unit = 1e3 * one, 1e3 * other, 'ms'
        what = row.what if unit != MIB or row.time_ratio is None else '  memory added'
        verdict = 'holds' if ratio <= limit else 'FAILS'
        lines.append(f'{what:<50}{one:>10.2f}{other:>12.2f} {unit:<4}{ratio:>8.3f}{limit:>9.2f}  {verdict}')
    if 'opencv_seconds' in ours[0]:
        inside = statistics.median(result['opencv_seconds'] for result in ours)
        whole = statistics.median(result['seconds'] for result in reference)
        lines.append(
            f'{"  of ours inside OpenCV":<50}{1e3 * inside:>10.2f}{"":>12} ms  {inside / whole:>8.3f}'
        )
    return lines, holds


def main() -> int:
    args = parse_args()
    wanted = args.rows.split(',')
    unknown = set(wanted) - {row.name for row in ROWS}
    if unknown:
        raise SystemExit(f'--rows: unknown {sorted(unknown)}; choose from {[row.name for row in ROWS]}')
    rows = [row for row in ROWS if row.name in wanted]
    results, verdicts, table = {}, [], []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as data:
        subprocess.run([sys.executable, str(HERE / 'speed_data.py'), data], check=True)
        for row in rows:
            sides: dict[str, list[dict]] = {'ours': [], 'reference': []}
            rounds = args.rounds or row.rounds
            for i in range(rounds):
                note = f'{time.monotonic() - began:6.0f} s  {row.name}, round {i + 1} of {rounds}'
                print(note, file=sys.stderr, flush=True)
                sides['ours'].append(measure('dpt', row, args, data))
                if row.seconds is None:
                    sides['reference'].append(measure('mmseg', row, args, data))
            results[row.name] = sides
            lines, holds = compare(row, **sides)
            table.extend(lines)
            verdicts.append(holds)
            print('\n'.join(lines), file=sys.stderr, flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))
    header = f'{"medians":<50}{"ours":>10}{"reference":>12} {"":<4}{"ratio":>8}{"at most":>9}'
    print('\n'.join(['', header, '-' * len(header), *table]))
    return 0 if all(verdicts) else 1


if __name__ == '__main__':
    sys.exit(main())
