"""Compare speed and memory on a CUDA GPU with MMSegmentation and with limits for an H200 or H100.

Example:
    python benchmarks/speed_gpu.py --json gpu.json

Without ``--peer-python`` an environment with MMSegmentation is made first, by ``setup_peer.sh``, with the
torch of this one: without a network if ``WHEELS`` names a folder with the wheels.

Prints a table in Markdown, as for RESULTS.md. Exit status: 0 if every row holds, 1 if not or if a
measurement failed, 2 for a wrong argument, without a GPU, and for a smoke run. Each measurement runs in a
separate process, alternating between dpt and the reference. One that fails leaves the others alone. All rows
have been measured once before the first is measured again, for which ``--minutes`` may leave no time.
``--rows infer,data`` selects some rows.

A smoke run on a CPU, whose figures are meaningless:
    python benchmarks/speed_gpu.py --peer-python /tmp/peer/bin/python --device cpu --batch-size 1 --size 64 \\
        --images 3 --iterations 2 --warmup 1 --workers 1 --rounds 1
"""

import argparse
import dataclasses
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from speed import HERE, WorkerError, run_worker
from speed_gpu_worker import Settings

RECIPE_IMAGES = 160_000 * 16
LONGEST = 400
"""Seconds after which a measurement is ended; none that holds its limit takes half as long."""
HEADER = '| what | ours | reference | unit | ratio | limit | |\n|---|---|---|---|---|---|---|'
Found = dict[str, list[dict]]
"""Results of each measurement; a failed one has only the key ``failure``."""


@dataclass(frozen=True)
class Line:
    """A line of the table; ``limit`` applies to the ratio if there is a reference, else to ``ours``.

    Figures that could not be measured are NaN, and do not hold.
    """

    what: str
    ours: float
    unit: str
    limit: float | None = None
    at_least: bool = False
    reference: float | None = None

    def holds(self) -> bool:
        """Return whether the limit holds; True without a limit."""
        if self.limit is None:
            return True
        value = self.ours if self.reference is None else self.ours / self.reference
        return value >= self.limit if self.at_least else value <= self.limit

    def text(self, *, judged: bool) -> str:
        """Return the line as a row of a Markdown table, with a verdict if ``judged``."""
        reference = '' if self.reference is None else f'{self.reference:.2f}'
        ratio = '' if self.reference is None else f'{self.ours / self.reference:.3f}'
        limit = '' if self.limit is None else f'{"at least" if self.at_least else "at most"} {self.limit:.4g}'
        verdict = ('holds' if self.holds() else '**fails**') if judged and self.limit is not None else ''
        columns = (self.what, f'{self.ours:.2f}', reference, self.unit, ratio, limit, verdict)
        return f'| {" | ".join(columns)} |'


@dataclass(frozen=True)
class Row:
    """Related measurements, the number of rounds, and a function that returns their lines."""

    name: str
    measurements: tuple[str, ...]
    rounds: int
    lines: Callable[[Found, Settings], list[Line]]


def median(found: Found, name: str, key: str = 'seconds') -> float:
    """Return the median over the rounds, or NaN if all failed."""
    values = [result[key] for result in found[name] if 'failure' not in result]
    return statistics.median(values) if values else math.nan


def fastest(rates: dict[str, float]) -> str:
    """Return the name of the highest rate that is not NaN, if there is one."""
    return max(rates, key=lambda name: (not math.isnan(rates[name]), rates[name]))


LIMITS = {'H200': dict(train=400, infer=1100), '': dict(train=350, infer=900)}
"""Images/s to reach, by part of the GPU's name; the last line is for an H100."""


def limit(found: Found, what: str) -> float:
    """Return the limit for the GPU that was measured."""
    machine = ' '.join(machines(found))
    return next(limits[what] for name, limits in LIMITS.items() if name in machine)


def machines(found: Found) -> list[str]:
    """Return the GPUs and versions of torch of all measurements."""
    return sorted(
        {result['machine'] for results in found.values() for result in results if 'machine' in result}
    )


def training(found: Found, settings: Settings) -> list[Line]:
    """Return the lines for training; the limits apply to the faster of eager and compiled."""
    rates = {name: settings.batch_size / median(found, name) for name in TRAININGS}
    best = fastest({name: rates[name] for name in ('train', 'train-compiled')})
    rate, flops = rates[best], median(found, best, 'flops') / settings.batch_size
    share = 100 * rate * flops / median(found, best, 'matrix_rate')
    memory, theirs = (median(found, name, 'added_mib') for name in (best, 'reference-amp'))
    return [
        Line('training, bf16, eager', rates['train'], 'images/s'),
        Line('training, bf16, compiled losses', rates['train-compiled'], 'images/s'),
        Line('  the faster one', rate, 'images/s', limit(found, 'train'), at_least=True),
        Line('  share of the measured bf16 matrix rate', share, '%'),
        Line('  the 160k recipe, 2.56 M images', RECIPE_IMAGES / rate / 3600, 'h', 2),
        Line('  against fp32', rate, 'images/s', reference=rates['reference-fp32']),
        Line('  against bf16 AMP', rate, 'images/s', 3, at_least=True, reference=rates['reference-amp']),
        Line('  memory added per image, against bf16 AMP', memory, 'MiB', 0.5, reference=theirs),
    ]


def small_batches(found: Found, settings: Settings) -> list[Line]:
    """Return the lines for training with 2 images, as with 8 processes; the fastest counts."""
    many = {name: settings.batch_size / median(found, name) for name in ('train', 'train-compiled')}
    kinds = {'train-2': 'eager', 'train-2-compiled': 'compiled', 'train-2-graphs': 'CUDA graphs'}
    rates = {name: 2 / median(found, name) for name in kinds}
    lines = [Line(f'training, 2 images, {kinds[name]}', rates[name], 'images/s') for name in kinds]
    best, reference = rates[fastest(rates)], many[fastest(many)]
    what = f'  the fastest, against {settings.batch_size} images'
    return [*lines, Line(what, best, 'images/s', 0.7, at_least=True, reference=reference)]


def losses(found: Found, _: Settings) -> list[Line]:
    """Return the lines for the cross-entropy: Triton's kernel against torch, forward and backward."""
    fast, slow = median(found, 'loss-triton'), median(found, 'loss-torch')
    error = median(found, 'loss-triton', 'error')
    return [
        Line('cross-entropy by Triton, against torch', 1e3 * fast, 'ms', 1, reference=1e3 * slow),
        Line('  largest error of the gradient', 1e6 * error, 'ppm', 10),
    ]


def evaluation(what: str, name: str, limit: float) -> Callable[[Found, Settings], list[Line]]:
    """Return a function that returns the lines for an evaluation; the limit applies to the faster dtype."""

    def lines(found: Found, _: Settings) -> list[Line]:
        fp32, amp = median(found, name), median(found, f'{name}-amp')
        best = dict(fp32=fp32, amp=amp)[fastest(dict(fp32=1 / fp32, amp=1 / amp))]
        return [
            Line(f'{what}, fp32', fp32, 's'),
            Line(f'{what}, test_cfg.fp16=True', amp, 's'),
            Line('  the faster one', best, 's', limit),
        ]

    return lines


def inference(found: Found, settings: Settings) -> list[Line]:
    """Return the line for the prediction rate."""
    rate = settings.batch_size / median(found, 'infer')
    least = limit(found, 'infer')
    return [Line(f'inference, bf16, batch {settings.batch_size}', rate, 'images/s', least, at_least=True)]


def latency(found: Found, _: Settings) -> list[Line]:
    """Return the line for the prediction latency."""
    return [Line('inference, bf16, batch 1, median latency', 1e3 * median(found, 'latency'), 'ms', 4)]


def data(found: Found, _: Settings) -> list[Line]:
    """Return the lines for the time spent waiting for data."""
    rate, waiting = (median(found, 'data', key) for key in ('images_per_s', 'data_wait'))
    return [
        Line('training from files', rate, 'images/s'),
        Line('  time spent waiting for data', 100 * waiting, '%', 3),
    ]


SINGLE, VIEWS = 'evaluation, single scale', 'evaluation, 12 views'
TRAININGS = ('train', 'reference-fp32', 'train-compiled', 'reference-amp')
SMALL = ('train-2', 'train-2-compiled', 'train-2-graphs')
ROWS = (
    Row('train', TRAININGS, 2, training),
    Row('small', ('train', 'train-compiled', *SMALL), 1, small_batches),
    Row('loss', ('loss-torch', 'loss-triton'), 1, losses),
    Row('infer', ('infer',), 3, inference),
    Row('latency', ('latency',), 3, latency),
    Row('data', ('data',), 1, data),
    Row('evaluate', ('evaluate', 'evaluate-amp'), 1, evaluation(SINGLE, 'evaluate', 30)),
    Row('views', ('evaluate-views-amp', 'evaluate-views'), 1, evaluation(VIEWS, 'evaluate-views', 180)),
)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--peer-python', help='Python of an environment with MMSegmentation (default: make one)'
    )
    parser.add_argument('--rows', default=','.join(row.name for row in ROWS), help='comma-separated names')
    parser.add_argument('--rounds', type=int, help='rounds of every row (default: 1 to 3, by row)')
    parser.add_argument('--minutes', type=float, default=25, help='time for everything (default: 25)')
    parser.add_argument('--json', metavar='FILE', help='write all measurements to this file')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda', help='cpu: a smoke run')
    for name, what in (
        ('batch_size', 'images per batch'),
        ('size', 'side of the images; a multiple of 64'),
        ('images', 'images in the evaluation'),
        ('iterations', 'timed steps; the row data trains six times as many'),
        ('warmup', 'untimed steps at the start'),
        ('workers', 'worker processes per data loader'),
    ):
        default = getattr(Settings, name)
        option = f'--{name.replace("_", "-")}'
        parser.add_argument(option, type=int, default=default, help=f'{what} (default: {default})')
    args = parser.parse_args(arguments)
    names = [row.name for row in ROWS]
    args.rows = args.rows.split(',')
    if unknown := set(args.rows) - set(names):
        parser.error(f'--rows: unknown {sorted(unknown)}; choose from {names}')
    for name in ('batch_size', 'images', 'iterations', 'warmup', 'workers'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)}: must be 1 or more')
    if args.size < 64 or args.size % 64:
        parser.error(f'--size {args.size}: must be a multiple of 64')
    return args


def settings_of(args: argparse.Namespace, data: str) -> Settings:
    """Return the settings for the workers."""
    names = [field.name for field in dataclasses.fields(Settings) if field.name != 'data']
    return Settings(**{name: getattr(args, name) for name in names}, data=data)


def write_data(root: Path, count: int) -> None:
    """Write the images of ``speed_data.py`` for training, and ``count`` links to them for validation."""
    subprocess.run([sys.executable, str(HERE / 'speed_data.py'), str(root)], check=True)
    for kind in ('images', 'annotations'):
        (root / kind / 'validation').mkdir()
        files = sorted((root / kind / 'training').iterdir())
        for i in range(count):
            file = files[i % len(files)]
            os.link(file, root / kind / 'validation' / f'ADE_val_{i:08d}{file.suffix}')


def make_peer(folder: Path) -> str | None:
    """Make an environment with MMSegmentation and the torch of this one; return its Python, or None."""
    command = ['bash', str(HERE / 'setup_peer.sh'), str(folder), sys.executable]
    done = subprocess.run(command, env=dict(os.environ, TORCH='shared'), stdout=sys.stderr)
    return None if done.returncode else str(folder / 'bin' / 'python')


def measure(name: str, args: argparse.Namespace, settings: Settings, left: float) -> dict:
    """Run a measurement within the seconds that are left; return its result or why it failed."""
    python = args.peer_python if name.startswith('reference') else sys.executable
    if python is None:
        return dict(failure='there is no environment with MMSegmentation')
    if left <= 0:
        return dict(failure='no time was left: raise --minutes, or select fewer --rows')
    hidden = dict(CUDA_VISIBLE_DEVICES='') if settings.device == 'cpu' else {}
    arguments = [name, settings.as_json()]
    try:
        return run_worker(python, 'speed_gpu_worker.py', arguments, timeout=min(left, LONGEST), **hidden)
    except WorkerError as error:
        return dict(failure=str(error))


def measure_rows(rows: list[Row], args: argparse.Namespace, settings: Settings, end: float) -> Found:
    """Measure all rows once, then again those with more rounds if it can end before the time ``end``."""
    found: Found = {}
    took: dict[str, float] = {}
    for i in range(max(args.rounds or row.rounds for row in rows)):
        names = [name for row in rows if i < (args.rounds or row.rounds) for name in row.measurements]
        for name in dict.fromkeys(names):
            began = time.monotonic()
            if i and end - began < took[name]:
                continue
            note = f'{time.strftime("%H:%M:%S")}  {name}, round {i + 1}'
            print(note, file=sys.stderr, flush=True)
            result = measure(name, args, settings, end - began)
            took[name] = time.monotonic() - began
            found.setdefault(name, []).append(result)
            print(result.get('failure', json.dumps(result)), file=sys.stderr, flush=True)
            if args.json:  # after each, in case that the rest is lost
                text = json.dumps(dict(settings=dataclasses.asdict(settings), found=found), indent=1)
                Path(args.json).write_text(text)
    return found


def report(found: Found, lines: list[Line], command: str, *, judged: bool) -> str:
    """Return command, machine, table and failures in Markdown."""
    said = [
        f'`{command}`',
        time.strftime('%Y-%m-%d'),
        *machines(found),
        f'{os.cpu_count()} CPU cores, medians:',
    ]
    table = '\n'.join([HEADER, *(line.text(judged=judged) for line in lines)])
    errors = [
        f'{name}, round {i + 1}: {result["failure"]}'
        for name, results in found.items()
        for i, result in enumerate(results)
        if 'failure' in result
    ]
    return '\n\n'.join([', '.join(said), table, *errors])


def main(arguments: list[str] | None = None) -> int:
    began = time.monotonic()
    args = parse_args(arguments)
    if args.device == 'cuda' and not torch.cuda.is_available():
        print('error: no CUDA GPU found; use --device cpu for a smoke run, see --help', file=sys.stderr)
        return 2
    rows = [row for row in ROWS if row.name in args.rows]
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(args, folder)
        write_data(Path(folder), settings.images)
        if 'train' in args.rows and not args.peer_python:
            args.peer_python = make_peer(Path(folder) / 'peer')
        found = measure_rows(rows, args, settings, began + 60 * args.minutes)
    lines = [line for row in rows for line in row.lines(found, settings)]
    command = shlex.join(['python', 'benchmarks/speed_gpu.py', *(arguments or sys.argv[1:])])
    print(report(found, lines, command, judged=args.device == 'cuda'))
    if args.device == 'cpu':
        print('\nno GPU: smoke run, the figures are meaningless')
        return 2
    failed = any('failure' in result for results in found.values() for result in results)
    return 0 if not failed and all(line.holds() for line in lines) else 1


if __name__ == '__main__':
    sys.exit(main())
