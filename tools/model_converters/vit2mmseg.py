"""Convert a plain ViT to the keys of VisionTransformer, which are the same as in MMSegmentation.

Supports files of timm, DeiT, DINO, DINOv2, MAE, Google (.npz) and torchvision, and ViT, ViTMAE and DINOv2 of
Hugging Face.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dpt.checkpoints import Report, checkpoint_hash, read_state_dict, save_weights
from dpt.checkpoints.formats import convert_known
from dpt.checkpoints.formats.table import Format
from dpt.checkpoints.formats.vit import (
    DEIT_DISTILLED,
    FOREIGN_VITS,
    GOOGLE_VIT,
    MMSEG_VIT,
    backbone_settings,
    check_complete,
)
from dpt.checkpoints.read import choice_of_weights
from dpt.checkpoints.write import check_target
from dpt.files import explain_os_error

EXAMPLE = """example:
  python tools/model_converters/vit2mmseg.py vit_base_patch16_224.safetensors pretrain/vit_base_p16_224.pth

Use the result in a config:
  model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrain/vit_base_p16_224.pth')))
"""
NO_DISTILLATION = (
    'dropped the distillation token and its position. The other tokens attend to it in every layer, so the '
    'features are no longer those of the distilled model, and fine-tuning has to compensate for this'
)


@dataclass(frozen=True)
class Conversion:
    """Converted tensors, the report of the conversion, and the backbone settings for a config."""

    tensors: dict[str, Tensor]
    report: Report
    settings: list[str]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'src', help='path or http(s) URL of the weights of a plain ViT, .pth, .pt, .safetensors or .npz'
    )
    parser.add_argument('dst', nargs='?', help='output file, .pth or .safetensors; its folder is created')
    parser.add_argument('--dry-run', action='store_true', help='print the table and write nothing')
    parser.add_argument(
        '--drop-dist-token',
        action='store_true',
        help='convert a distilled DeiT without its distillation token, which changes its features',
    )
    args = parser.parse_args()
    if args.dst is None and not args.dry_run:
        parser.error('either dst or --dry-run is required')
    return args


def convert(src: str, drop_dist_token: bool = False) -> Conversion:
    """Read and convert ``src``.

    Raises:
        FileNotFoundError: If ``src`` does not exist.
        ValueError: If it cannot be read, or is not a plain ViT in a supported format.
    """
    state_dict = read_state_dict(src)
    if MMSEG_VIT.fits(state_dict):
        raise ValueError(f'{src}: the keys are already those of MMSegmentation; there is nothing to convert')
    if drop_dist_token and 'dist_token' not in state_dict:
        raise ValueError(f'{src}: --drop-dist-token is set, but the file has no dist_token')
    formats = (DEIT_DISTILLED,) if drop_dist_token else FOREIGN_VITS
    try:
        tensors, report = convert_known(state_dict, formats)
        check_complete(tensors)
    except ValueError as error:
        raise ValueError(f'{src}: {error}') from None
    source = next(known for known in formats if known.name == report.source)
    return Conversion(
        tensors, report, backbone_settings(tensors, source, num_heads=_heads(state_dict, source))
    )


def _heads(state_dict: Mapping[str, Tensor], source: Format) -> int | None:
    """Return the number of attention heads, which only Google's files contain."""
    if source is not GOOGLE_VIT:
        return None
    return state_dict['Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel'].shape[1]


def main() -> int:
    args = parse_args()
    dst = Path(args.dst).expanduser() if args.dst else None
    try:
        if dst is not None:
            check_target(dst, args.src)
        conversion = convert(args.src, args.drop_dist_token)
        if dst is not None and not args.dry_run:
            meta = {
                'converter': 'vit2mmseg',
                'source': Path(args.src).name,
                'source_sha256': checkpoint_hash(args.src),
            }
            save_weights(conversion.tensors, meta, dst)
    except (ValueError, OSError) as error:
        message = explain_os_error(error) if isinstance(error, OSError) else error
        print(f'vit2mmseg: {message}', file=sys.stderr)
        return 1
    print(f'{conversion.report.source} keys')
    choice = choice_of_weights(args.src)
    if choice:
        print(f'used the weights of {choice[0]!r}; the file also has {", ".join(map(repr, choice[1]))}')
    print(conversion.report.table())
    if args.drop_dist_token:
        print(NO_DISTILLATION)
    print('\n  '.join(['the config needs', *conversion.settings]))
    if dst is None or args.dry_run:
        print('dry run: nothing was written')
    else:
        print(f'written to {dst} ({dst.stat().st_size / 2**20:.1f} MiB)')
    return 0


if __name__ == '__main__':
    sys.exit(main())
