"""Measure how fast a config trains and predicts, with random weights and images.

It reports throughput, latency, memory, the time share of each part, and model FLOPs utilisation (MFU). MFU is
relative to the peak rate in the device's data sheet, if known, otherwise to the measured rate of large matrix
products. The shares come from separate steps that synchronise the device after each part.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/benchmark.py configs/dpt_vit-b16_512x512_160k_ade20k.py --train --infer --batch-size 16 \\
        --amp --json speed.json --picture speed.png
"""

import argparse
import copy
import json
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from dpt.cli import add_config_options, one_line_errors
from dpt.config.load import load_config
from dpt.config.testing import use_test_time_augmentation
from dpt.config.walk import without_annotations
from dpt.engine import enable_amp
from dpt.engine.optim import preferred_amp_dtype
from dpt.extras.profiling import workloads
from dpt.extras.profiling.benchmark import Limits, as_text, draw_shares, run

MODES = ('train', 'infer', 'tta', 'data', 'metric')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--train', action='store_true', help='training steps (default together with --infer)')
    parser.add_argument('--infer', action='store_true', help='predictions, from images to label maps')
    parser.add_argument('--tta', action='store_true', help='predictions with test-time augmentation')
    parser.add_argument('--data', action='store_true', help='training data loader; needs the data set')
    parser.add_argument('--metric', action='store_true', help='metric on predicted label maps')
    parser.add_argument('--device', help='cpu, cuda or cuda:N (default: cuda if there is one)')
    parser.add_argument(
        '--batch-size',
        type=int,
        help="images per step (default: the config's for --data and for --train on a GPU; otherwise 1)",
    )
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('H', 'W'), help='image size (default: the training crop)'
    )
    parser.add_argument('--iters', type=int, help='number of timed steps (default: 50 on a GPU, 3 on a CPU)')
    parser.add_argument('--amp', action='store_true', help='mixed precision: bf16 if the device supports it')
    parser.add_argument('--compile', action='store_true', help='compile training steps, like compile=True')
    parser.add_argument('--threads', type=int, help="CPU threads (default: torch's)")
    parser.add_argument('--json', metavar='FILE', help='write all results to this file')
    parser.add_argument('--picture', metavar='FILE', help='plot the shares to this file (.png, .svg, .pdf)')
    add_config_options(parser)
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Raise an error for invalid arguments before anything is measured."""
    for name in ('batch_size', 'iters', 'threads'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f'--{name.replace("_", "-")} {value}: must be 1 or more')
    if args.size is not None and min(args.size) < 1:
        raise ValueError(f'--size {args.size[0]} {args.size[1]}: both must be 1 or more')
    for name in ('json', 'picture'):
        path = getattr(args, name)
        if path is not None and not Path(path).resolve().parent.is_dir():
            raise FileNotFoundError(f'--{name} {path}: the folder does not exist')
    if args.picture and Path(args.picture).suffix not in ('.png', '.svg', '.pdf'):
        raise ValueError(f'--picture {args.picture}: must end in .png, .svg or .pdf')


def choose_device(name: str | None) -> torch.device:
    """Return the named device; by default the GPU if there is one."""
    available = torch.cuda.is_available()
    try:
        device = torch.device(name or ('cuda' if available else 'cpu'))
    except RuntimeError:
        device = torch.device('meta')
    if device.type not in ('cpu', 'cuda'):
        raise ValueError(f'--device {name}: must be cpu, cuda or cuda:N')
    if device.type == 'cuda' and not (available and (device.index or 0) < torch.cuda.device_count()):
        raise ValueError(f'--device {name}: this GPU does not exist')
    if device.type == 'cuda':
        torch.cuda.set_device(device)
    return device


def choose_size(args: argparse.Namespace, config: Config) -> tuple[int, int]:
    """Return the (height, width) of the images."""
    size = args.size or config.model.data_preprocessor.get('size')
    if size is None:
        raise ValueError('the config has no model.data_preprocessor.size: give --size H W')
    return size[0], size[1]


def configured_batch(config: Config) -> int:
    """Return the training batch size per device."""
    return config.train_dataloader.get('batch_size') or config.get('total_batch_size') or 1


def build_workloads(
    args: argparse.Namespace, config: Config, device: torch.device
) -> dict[str, workloads.Workload]:
    """Build the requested workloads, by mode."""
    wanted = [mode for mode in MODES if getattr(args, mode)] or ['train', 'infer']
    size, found = choose_size(args, config), {}
    amp_dtype = preferred_amp_dtype() if args.amp else None
    if {'train', 'infer', 'tta'} & set(wanted):
        model = workloads.build_model(config, device)
    for mode in wanted:
        if mode == 'train':
            default = configured_batch(config) if device.type == 'cuda' else 1
            found[mode] = workloads.training(config, model, size, args.batch_size or default)
        elif mode == 'infer':
            found[mode] = workloads.inference(config, model, size, args.batch_size or 1, amp_dtype)
        elif mode == 'tta':
            tested = copy.deepcopy(config)
            use_test_time_augmentation(tested)
            pipeline = without_annotations(tested.tta_pipeline)
            found[mode] = workloads.test_time_augmentation(config, model, pipeline, size, amp_dtype)
        elif mode == 'data':
            config.train_dataloader.batch_size = args.batch_size or configured_batch(config)
            if config.train_dataloader.get('num_workers') == 0:
                config.train_dataloader.persistent_workers = False
            found[mode] = workloads.data_loading(config.train_dataloader)
        else:
            found[mode] = workloads.metric(config, size, device)
    return found


def main() -> None:
    with one_line_errors():
        args = parse_args()
        check(args)
        device = choose_device(args.device)
        config = load_config(args.config, args.cfg_options)
        init_default_scope(config.get('default_scope', 'dpt'))
        if args.amp:
            enable_amp(config)
        if args.threads:
            torch.set_num_threads(args.threads)
        found = build_workloads(args, config, device)
        iters = args.iters or (50 if device.type == 'cuda' else 3)
        limits = Limits.measure(device, preferred_amp_dtype() if args.amp else torch.float32)
        results = [
            run(workload, limits, warmup=max(iters // 5, 1), iters=iters, compiled=args.compile)
            for workload in found.values()
        ]
        print(as_text(results, limits))
        report = dict(config=args.config, torch=torch.__version__, **limits.as_dict(), results=results)
        if args.json:
            Path(args.json).write_text(json.dumps(report, indent=1) + '\n')
        if args.picture:
            draw_shares(
                results, f'{Path(args.config).name}, {report["device"]}, {report["dtype"]}', args.picture
            )


if __name__ == '__main__':
    main()
