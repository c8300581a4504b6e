"""Convert checkpoints of the original DPT for segmentation (isl-org/DPT) to the keys of this package.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from dpt.checkpoints import Report, checkpoint_hash, read_state_dict, save_weights
from dpt.checkpoints.formats import convert as convert_keys
from dpt.checkpoints.formats.isl import Layout, recognise_layout
from dpt.checkpoints.formats.published import ISL_SEGMENTATION
from dpt.checkpoints.write import check_target
from dpt.files import explain_os_error

EXAMPLE = """example:
  python tools/model_converters/isl2dpt.py dpt_large-ade20k-b12dca68.pt pretrain/dpt_large-ade20k.pth
  python tools/test.py configs/dpt_vit-l16_512x512_160k_ade20k.py pretrain/dpt_large-ade20k.pth
"""
ADE20K_CLASSES = 150  # in the configs


@dataclass(frozen=True)
class Conversion:
    """A converted model, the report of the conversion, the architecture, and the number of classes."""

    tensors: dict[str, Tensor]
    report: Report
    layout: Layout
    num_classes: int


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='path or http(s) URL of a file of the original DPT, .pt or .pth')
    parser.add_argument('dst', nargs='?', help='output file, .pth or .safetensors; its folder is created')
    parser.add_argument('--dry-run', action='store_true', help='print the table and write nothing')
    args = parser.parse_args()
    if args.dst is None and not args.dry_run:
        parser.error('either dst or --dry-run is required')
    return args


def convert(src: str) -> Conversion:
    """Read and convert ``src``.

    Raises:
        FileNotFoundError: If ``src`` does not exist.
        ValueError: If it cannot be read, or is not a segmentation model of the original DPT.
    """
    state_dict = read_state_dict(src)
    try:
        layout = recognise_layout(state_dict)
        tensors, report = convert_keys(state_dict, ISL_SEGMENTATION.model(ISL_SEGMENTATION.encoder))
        report = replace(report, source=f'original DPT, {layout.name}')
    except ValueError as error:
        raise ValueError(f'{src}: {error}') from None
    return Conversion(tensors, report, layout, len(tensors['decode_head.conv_seg.weight']))


def advice(conversion: Conversion, dst: Path | None) -> str:
    """Return the command that tests the model."""
    options = conversion.layout.options
    command = f'python tools/test.py {conversion.layout.config} {dst or "CHECKPOINT"}'
    if options:  # quoted because of the parentheses
        command += f' --cfg-options {" ".join(map(repr, options))}'
    if conversion.num_classes != ADE20K_CLASSES:
        command += (
            f'\n  with a config based on this one that has your data and heads of {conversion.num_classes} '
            'classes'
        )
    return command


def main() -> int:
    args = parse_args()
    dst = Path(args.dst).expanduser() if args.dst else None
    try:
        if dst is not None:
            check_target(dst, args.src)
        conversion = convert(args.src)
        if dst is not None and not args.dry_run:
            meta = {'converter': 'isl2dpt', 'source': Path(args.src).name}
            meta['source_sha256'] = checkpoint_hash(args.src)
            save_weights(conversion.tensors, meta, dst)
    except (ValueError, OSError) as error:
        message = explain_os_error(error) if isinstance(error, OSError) else error
        print(f'isl2dpt: {message}', file=sys.stderr)
        return 1
    print(f'{conversion.report.source}, {conversion.num_classes} classes')
    print(conversion.report.table())
    if dst is None or args.dry_run:
        print('dry run: nothing was written')
    else:
        print(f'written to {dst} ({dst.stat().st_size / 2**20:.1f} MiB)')
    print(f'to test it:\n  {advice(conversion, dst)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
