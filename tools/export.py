"""Export a trained model to ONNX or torch.export and compare it with PyTorch on images.

The graph takes uint8 images, BxHxWx3 in BGR, resized to the test scale, and returns float32 logits, BxKxHxW,
or depth, Bx1xHxW. It includes normalisation and padding; its metadata holds test scale, classes and palette.
tools/serve_onnx.py shows how to run it without torch.

Exit status: 0 if labels or depths agree, 1 if they differ (nothing is written) or on an error, 2 for invalid
arguments.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import dpt
from dpt.apis import Depth, Predictor
from dpt.cli import add_config_options, one_line_errors
from dpt.config.walk import first_test_dataset
from dpt.export import FORMATS, ExportedModel, depth_from, describe, labels_from, load, trace, write
from dpt.extras.files import find_files, is_video

EXAMPLE = """example:
  python tools/export.py dpt_mine.safetensors --format onnx --out dpt_mine.onnx --check photos/
  python tools/export.py configs/mine.py work_dirs/mine/iter_16000.pth --format torch_export --fp16 \\
      --no-dynamic --size 480 640 --out dpt_mine.pt2 --check photo.jpg
"""


CLOSE = 0.01
"""Depth agrees if it differs by at most this share; relative depth, by this share of its range."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config_or_model',
        help='checkpoint, work directory, URL, hf://OWNER/NAME or a name of the model zoo; or a config, with '
        'CHECKPOINT',
    )
    parser.add_argument('checkpoint', nargs='?', help='checkpoint for the config')
    parser.add_argument('--format', choices=FORMATS, required=True, help='file format')
    parser.add_argument('--out', metavar='FILE', required=True, help='file to write')
    parser.add_argument(
        '--check', metavar='IMAGE', nargs='+', required=True, help='images, folders or patterns to compare on'
    )
    parser.add_argument('--fp16', action='store_true', help='run the network in half precision')
    parser.add_argument(
        '--dynamic',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='accept any batch size, height and width (default), or only one image of one size',
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='with --no-dynamic: input size after resizing (default: that of the first --check image)',
    )
    parser.add_argument(
        '--min-agreement',
        type=float,
        default=None,
        metavar='PER_CENT',
        help='percentage of pixels whose label equals that of PyTorch, or whose depth does within 1 %% '
        '(default: 99.9; 99 with --fp16)',
    )
    add_config_options(parser)
    args = parser.parse_args()
    if args.dynamic and args.size:
        parser.error('--size needs --no-dynamic')
    if args.min_agreement is None:
        args.min_agreement = 99.0 if args.fp16 else 99.9
    return args


def check_target(path: Path, file_format: str) -> None:
    if path.suffix != FORMATS[file_format]:
        raise ValueError(f'--out {path}: the name of a {file_format} file must end in {FORMATS[file_format]}')
    if not path.parent.is_dir():
        raise FileNotFoundError(f'--out {path}: the folder does not exist')


def network_input(predictor: Predictor, path: Path) -> np.ndarray:
    """Load an image as input of the exported graph: uint8, 1xHxWx3, at the test scale."""
    return predictor.prepare(path)['inputs'].permute(1, 2, 0)[None].numpy()


def agreement(predictor: Predictor, run: Callable, path: Path) -> tuple[int, int]:
    """Return the number of pixels with the same label or depth as in PyTorch, and of all pixels."""
    expected = predictor(path)
    output = run(network_input(predictor, path))
    if isinstance(expected, Depth):
        depth = depth_from(output, expected.depth.shape, predictor.model)
        scale = np.ptp(expected.depth) if expected.relative else np.abs(expected.depth)
        return int((np.abs(depth - expected.depth) <= CLOSE * scale).sum()), depth.size
    labels = labels_from(output, expected.labels.shape)  # type: ignore[union-attr]
    return int((labels == expected.labels).sum()), labels.size  # type: ignore[union-attr]


def check(predictor: Predictor, file: Path, file_format: str, images: list[Path]) -> float:
    """Print the agreement for each image; return the total agreement in percent."""
    run, what = load(file, file_format), 'labels' if predictor.classes else 'depths'
    equal = total = 0
    for path in images:
        same, pixels = agreement(predictor, run, path)
        print(f'{path}: {100 * same / pixels:.4f} % of {pixels} {what} agree', flush=True)
        equal, total = equal + same, total + pixels
    return 100 * equal / total


def export(args: argparse.Namespace) -> bool:
    target = Path(args.out)
    check_target(target, args.format)
    images = [path for source in args.check for path, _ in find_files(source) if not is_video(path)]
    if not images:
        raise ValueError('--check found no image')
    config = args.config_or_model if args.checkpoint else None
    predictor = dpt.load(
        args.checkpoint or args.config_or_model,
        config,
        device='cpu',
        precision='fp32',
        cfg_options=args.cfg_options,
    )
    predictor.model.dataset_meta['palette'] = predictor.palette.tolist()
    meta = describe(predictor.model, first_test_dataset(predictor.model.cfg)['pipeline'])
    sizes = {path: network_input(predictor, path).shape[1:3] for path in images}
    size = tuple(args.size) if args.size else sizes[images[0]]
    if not args.dynamic:
        for path, found in sizes.items():
            if found != size:
                raise ValueError(
                    f'{path} has the input size {found[0]}x{found[1]}, but the graph {size[0]}x{size[1]}: '
                    'use --check images of that size, or export with --dynamic'
                )
        meta['size'] = [int(length) for length in size]
    program = trace(ExportedModel(predictor.model, half=args.fp16), size, dynamic=args.dynamic)
    partial = target.with_name(f'.{target.stem}.unchecked{target.suffix}')
    try:
        write(program, partial, args.format, meta)
        share = check(predictor, partial, args.format, images)
        passed = share >= args.min_agreement
        what = 'labels' if predictor.classes else 'depths'
        print(f'agreement: {share:.4f} % of {what} on {len(images)} images (minimum {args.min_agreement} %)')
        if passed:
            partial.replace(target)
            print(f'written to {target} ({target.stat().st_size / 2**20:.1f} MiB)')
    finally:
        partial.unlink(missing_ok=True)
    return passed


def main() -> int:
    with one_line_errors():
        if export(parse_args()):
            return 0
    print('error: the exported model predicts other values than PyTorch; nothing written', file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main())
