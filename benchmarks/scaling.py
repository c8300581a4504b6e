"""How cost grows with image size, batch, classes and processes, beside what the arithmetic says.

A small DPT trains and predicts on one thread. Time is the process's CPU time; memory is the peak of torch's
allocator over what was held before. The arithmetic is the growth of the matrix products (FLOPs) or of what
is varied (pixels, images, classes), to which all else is proportional, whichever is the larger; memory may
grow as the latter does.

Example:
    python benchmarks/scaling.py --picture scaling.png --json scaling.json

Exit status 0 only if nothing grows faster: memory by more than 5 %, time by more than 40 %, from any value to
the next. Takes some minutes; ``--sweeps batch,classes`` runs a part.
"""

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from dpt.extras.profiling import allocations, part_costs, training_flops
from dpt.extras.profiling.workloads import random_batch
from dpt.registry import MODELS

SWEEPS = {
    'side': (256, 512, 1024, 2048),
    'batch': (1, 2, 4, 8),
    'classes': (2, 10, 100, 1000),
    'processes': (1, 2),
}
LABELS = dict(
    side='side of the image (pixels)', batch='images a step', classes='classes', processes='processes'
)
DEFAULTS = dict(side=256, batch=1, classes=20, processes=1)
SLACK = dict(cpu_s=1.4, peak_mib=1.05)
MIB = 1 << 20


def config(classes: int) -> dict:
    """Return the config of a small DPT."""
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3),
        backbone=dict(
            type='VisionTransformer', embed_dims=16, num_layers=4, num_heads=1, out_indices=(0, 1, 2, 3)
        ),
        neck=dict(type='DPTNeck', in_channels=16, channels=16, post_process_channels=(16, 16, 16, 16)),
        decode_head=dict(type='DPTHead', in_channels=16, num_classes=classes),
    )


def steps(model: BaseModel, runner: BaseModel, data: dict) -> dict[str, Callable[[], object]]:
    """Return a training step and a prediction; ``runner`` is the model or what distributes it."""
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='AdamW', lr=1e-4)))

    def predict() -> object:
        with torch.no_grad():
            return model.eval().test_step(data)

    return dict(train=lambda: runner.train().train_step(data, wrapper), predict=predict)


def cost(step: Callable[[], object], repeats: int) -> dict:
    """Return the CPU seconds of a step, the least of some, and its peak of memory in MiB."""
    peak, seconds = allocations(step).peak / MIB, []  # of the first step, which makes the optimiser's state
    for _ in range(repeats):
        began = time.process_time()
        step()
        seconds.append(time.process_time() - began)
    return dict(cpu_s=min(seconds), peak_mib=peak)


def measure(settings: dict, distributed: bool) -> list[dict]:
    """Measure both steps at some settings, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model_config = config(settings['classes'])
    model = MODELS.build(model_config)
    model.init_weights()
    runner = MMDistributedDataParallel(module=model) if distributed else model
    data = random_batch((settings['side'],) * 2, settings['batch'], settings['classes'])
    shape = (settings['batch'], 3, settings['side'], settings['side'])
    flops = dict(
        train=training_flops(model_config, shape),
        predict=sum(part.flops for part in part_costs(model_config, shape)),
    )
    repeats = 3 if settings['side'] < 1024 else 1
    return [
        dict(mode=mode, gflop=flops[mode] / 1e9, **cost(step, repeats))
        for mode, step in steps(model, runner, data).items()
        if mode == 'train' or not distributed
    ]


def _worker(rank: int, settings: dict, folder: str) -> None:
    init_default_scope('dpt')
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=settings['processes']
    )
    rows = measure(settings, distributed=True)
    if rank == 0:
        Path(folder, 'rows.json').write_text(json.dumps(rows))
    torch.distributed.destroy_process_group()


def measure_processes(settings: dict) -> list[dict]:
    """Measure the training step of the first of some processes that share gradients over gloo."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_worker, (settings, folder), nprocs=settings['processes'])
        return json.loads(Path(folder, 'rows.json').read_text())


def sweep(name: str) -> list[dict]:
    """Measure at all values of what is varied."""
    rows = []
    for value in SWEEPS[name]:
        settings = dict(DEFAULTS, **{name: value})
        if name == 'processes':
            settings['side'] = 512  # sharing gradients costs the same for any image: not next to nothing
        print(f'{name} {value}', file=sys.stderr, flush=True)
        found = measure_processes(settings) if name == 'processes' else measure(settings, distributed=False)
        print(found, file=sys.stderr, flush=True)
        rows += [dict(sweep=name, value=value, **row) for row in found]
    return rows


def judge(rows: list[dict]) -> list[dict]:
    """Add to each row how much faster than the arithmetic it grew since the one before; 1 where as fast."""
    judged = copy.deepcopy(rows)
    before: dict[tuple[str, str], dict] = {}
    for row in judged:
        last = before.get((row['sweep'], row['mode']))
        before[row['sweep'], row['mode']] = row
        if last is None:
            continue
        varied = row['value'] / last['value']
        if row['sweep'] == 'side':
            varied **= 2
        if row['sweep'] == 'processes':
            varied = 1.0  # each has its own images
        arithmetic = dict(cpu_s=max(varied, row['gflop'] / last['gflop']), peak_mib=varied)
        row['excess'] = {key: row[key] / last[key] / arithmetic[key] for key in SLACK}
    return judged


def holds(row: dict) -> bool:
    """Tell whether a row grew no faster than it may."""
    return all(excess <= SLACK[key] for key, excess in row.get('excess', {}).items())


def table(rows: list[dict]) -> str:
    """Lay the rows out in Markdown."""
    lines = ['| varied | value | step | GFLOP | CPU s | against arithmetic | peak MiB | against linear | |']
    lines.append('|---|---|---|---|---|---|---|---|---|')
    for row in rows:
        excess = [f'{row["excess"][key]:.2f}' if 'excess' in row else '' for key in SLACK]
        lines.append(
            f'| {row["sweep"]} | {row["value"]} | {row["mode"]} | {row["gflop"]:.3g} | {row["cpu_s"]:.3g} '
            f'| {excess[0]} | {row["peak_mib"]:.4g} | {excess[1]} | {"" if holds(row) else "GROWS FASTER"} |'
        )
    return '\n'.join(lines)


def draw(rows: list[dict], path: str) -> None:
    """Draw time and memory against what is varied, with the growth of the FLOPs dotted."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row['sweep'] for row in rows))
    figure = Figure(figsize=(4 * len(names), 7), layout='constrained')
    axes = figure.subplots(2, len(names), squeeze=False)
    for column, name in enumerate(names):
        for mode, colour in (('train', 'tab:blue'), ('predict', 'tab:orange')):
            found = [row for row in rows if row['sweep'] == name and row['mode'] == mode]
            values = [row['value'] for row in found]
            for line, key in enumerate(SLACK):
                ys = [row[key] for row in found]
                axes[line][column].plot(values, ys, 'o-', color=colour, label=mode)
            if found:
                scale = found[0]['cpu_s'] / found[0]['gflop']
                flops = [row['gflop'] * scale for row in found]
                axes[0][column].plot(values, flops, ':', color=colour, label=f'{mode}, as its FLOPs grow')
        for line, label in enumerate(('CPU time of a step (s)', 'peak memory added (MiB)')):
            axes[line][column].set(xscale='log', yscale='log', xlabel=LABELS[name], ylabel=label)
            axes[line][column].set_xticks(SWEEPS[name], [str(value) for value in SWEEPS[name]])
            axes[line][column].minorticks_off()
            low, high = axes[line][column].get_ylim()
            if high < 10 * low:  # a decade at least, so that little growth looks little
                axes[line][column].set_ylim(low / 2, low * 5)
            axes[line][column].grid(alpha=0.3)
        axes[0][column].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--sweeps', default=','.join(SWEEPS), help='comma-separated names')
    parser.add_argument('--picture', metavar='FILE', help='write the plot there')
    parser.add_argument('--json', metavar='FILE', help='write all measurements there')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    names = args.sweeps.split(',')
    if set(names) - set(SWEEPS):
        raise SystemExit(f'--sweeps {args.sweeps}: there are {", ".join(SWEEPS)}')
    init_default_scope('dpt')
    rows = judge([row for name in names for row in sweep(name)])
    print(table(rows))
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + '\n')
    if args.picture:
        draw(rows, args.picture)
    return 0 if all(map(holds, rows)) else 1


if __name__ == '__main__':
    sys.exit(main())
