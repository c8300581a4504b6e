"""Compare speed and memory on a CUDA GPU with MMSegmentation and with limits for an H200 or H100.

Example:
    python benchmarks/speed_gpu.py --json gpu.json

Without ``--peer-python`` an environment with MMSegmentation is made first, by ``setup_peer.sh``: without a
network if ``WHEELS`` names a folder with the wheels, with this version of torch unless ``TORCH`` names one.

Prints a table with the columns what, ours, reference, ratio, limit, verdict. Exit status: 0 if every row
holds, 1 if not, 2 for a wrong argument, without a GPU, and for a smoke run. Each measurement runs in a
separate process, alternating between dpt and the reference. ``--rows infer,data`` selects some rows.

A smoke run on a CPU, whose figures are meaningless:
    python benchmarks/speed_gpu.py --peer-python /tmp/peer/bin/python --device cpu --batch-size 1 --size 64 \\
        --images 3 --iterations 2 --warmup 1 --workers 1 --rounds 1
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from speed import HERE, run_worker
from speed_gpu_worker import Settings

RECIPE_IMAGES = 160_000 * 16
Found = dict[str, list[dict]]


@dataclass(frozen=True)
class Line:
    """A line of the table; ``limit`` applies to the ratio if there is a reference, else to ``ours``."""

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
        """Return the line as text, with a verdict if ``judged``."""
        reference = '-' if self.reference is None else f'{self.reference:.2f}'
        ratio = '-' if self.reference is None else f'{self.ours / self.reference:.3f}'
        limit = '' if self.limit is None else f'{">=" if self.at_least else "<="} {self.limit:.4g}'
        verdict = ('holds' if self.holds() else 'FAILS') if judged and self.limit is not None else '-'
        columns = f'{self.ours:>10.2f}{reference:>12} {self.unit:<9}{ratio:>7}{limit:>10}  {verdict}'
        return f'{self.what:<46}{columns}'


@dataclass(frozen=True)
class Row:
    """Related measurements, the number of rounds, and a function that returns their lines."""

    name: str
    measurements: tuple[str, ...]
    rounds: int
    lines: Callable[[Found, Settings], list[Line]]


def median(found: Found, name: str, key: str = 'seconds') -> float:
    """Return the median over the rounds."""
    return statistics.median(result[key] for result in found[name])


LIMITS = {'H200': dict(train=400, infer=1100), '': dict(train=350, infer=900)}
"""Images/s to reach, by part of the GPU's name; the last line is for an H100."""


def limit(found: Found, what: str) -> float:
    """Return the limit for the GPU that was measured."""
    machine = next(iter(found.values()))[0].get('machine', '')
    return next(limits[what] for name, limits in LIMITS.items() if name in machine)


def training(found: Found, settings: Settings) -> list[Line]:
    """Return the lines for training; the limits apply to the faster of eager and compiled."""
    rates = {name: settings.batch_size / median(found, name) for name in found}
    best = max(('train', 'train-compiled'), key=rates.__getitem__)
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
    many = max(settings.batch_size / median(found, name) for name in ('train', 'train-compiled'))
    kinds = {'train-2': 'eager', 'train-2-compiled': 'compiled', 'train-2-graphs': 'CUDA graphs'}
    rates = {name: 2 / median(found, name) for name in kinds}
    lines = [Line(f'training, 2 images, {kinds[name]}', rates[name], 'images/s') for name in kinds]
    ratio = max(rates.values()), 'images/s', 0.7
    return [*lines, Line('  the fastest, against 16 images', *ratio, at_least=True, reference=many)]


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
        return [
            Line(f'{what}, fp32', fp32, 's'),
            Line(f'{what}, test_cfg.fp16=True', amp, 's'),
            Line('  the faster one', min(fp32, amp), 's', limit),
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
    Row('evaluate', ('evaluate', 'evaluate-amp'), 1, evaluation(SINGLE, 'evaluate', 30)),
    Row('views', ('evaluate-views', 'evaluate-views-amp'), 1, evaluation(VIEWS, 'evaluate-views', 180)),
    Row('data', ('data',), 1, data),
)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--peer-python', help='Python of an environment with MMSegmentation (default: make one)'
    )
    parser.add_argument('--rows', default=','.join(row.name for row in ROWS), help='comma-separated names')
    parser.add_argument('--rounds', type=int, help='rounds of every row (default: 1 or 3, by row)')
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


def make_peer(folder: Path) -> str:
    """Make an environment with MMSegmentation; return its Python."""
    environment = dict(os.environ)
    environment.setdefault('TORCH', torch.__version__.partition('+')[0])
    command = ['bash', str(HERE / 'setup_peer.sh'), str(folder), sys.executable]
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    return str(folder / 'bin' / 'python')


def measure(row: Row, args: argparse.Namespace, settings: Settings) -> Found:
    """Run the measurements of a row in turn."""
    found: Found = {name: [] for name in row.measurements}
    rounds = args.rounds or row.rounds
    hidden = dict(CUDA_VISIBLE_DEVICES='') if settings.device == 'cpu' else {}
    for i in range(rounds):
        for name in row.measurements:
            note = f'{time.strftime("%H:%M:%S")}  {name}, round {i + 1} of {rounds}'
            print(note, file=sys.stderr, flush=True)
            python = args.peer_python if name.startswith('reference') else sys.executable
            arguments = [name, settings.as_json()]
            found[name].append(run_worker(python, 'speed_gpu_worker.py', arguments, **hidden))
    return found


def verdict(lines: list[Line], device: str) -> int:
    """Return the exit status."""
    if device == 'cpu':
        print('no GPU: smoke run, the figures are meaningless')
        return 2
    return 0 if all(line.holds() for line in lines) else 1


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    if args.device == 'cuda' and not torch.cuda.is_available():
        print('error: no CUDA GPU found; use --device cpu for a smoke run, see --help', file=sys.stderr)
        return 2
    found, table = {}, []
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(args, folder)
        write_data(Path(folder), settings.images)
        if 'train' in args.rows and not args.peer_python:
            args.peer_python = make_peer(Path(folder) / 'peer')
        for row in (row for row in ROWS if row.name in args.rows):
            found[row.name] = measure(row, args, settings)
            lines = row.lines(found[row.name], settings)
            table.extend(lines)
            for line in lines:
                print(line.text(judged=args.device == 'cuda'), file=sys.stderr, flush=True)
    if args.json:
        Path(args.json).write_text(
            json.dumps(dict(settings=dataclasses.asdict(settings), found=found), indent=1)
        )
    machines = sorted({result['machine'] for row in found.values() for of in row.values() for result in of})
    header = f'{"medians":<46}{"ours":>10}{"reference":>12} {"":<9}{"ratio":>7}{"limit":>10}'
    print('\n'.join(['', *machines, f'{os.cpu_count()} CPU cores', header, '-' * len(header)]))
    print('\n'.join(line.text(judged=args.device == 'cuda') for line in table))
    return verdict(table, args.device)


if __name__ == '__main__':
    sys.exit(main())
