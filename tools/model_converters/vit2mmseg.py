"""Rename the keys of a plain timm ViT to those of MMSegmentation's and our VisionTransformer."""

import argparse
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from dpt.checkpoints import Report, checkpoint_hash, read_state_dict
from dpt.checkpoints.convert import convert_known
from dpt.checkpoints.rules import MMSEG_VIT, TIMM_VIT

EXAMPLE = """example:
  python tools/model_converters/vit2mmseg.py vit_base_patch16_224.safetensors pretrained/vit_base_p16_224.pth

The result goes into a config as
  model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrained/vit_base_p16_224.pth')))
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'src', help='weights in timm keys: a path or http(s) address, .pth, .pt or .safetensors'
    )
    parser.add_argument('dst', help='file to write, .pth or .safetensors; its folder is made')
    return parser.parse_args()


def convert_file(src: str, dst: Path) -> Report:
    """Convert ``src`` to ``dst``, which appears complete or not at all.

    Raises:
        FileNotFoundError: there is no ``src``.
        ValueError: ``src`` cannot be read or is not a plain ViT in timm keys, or ``dst`` is no place for
            the result.
        OSError: ``dst`` cannot be written.
    """
    if dst.suffix not in ('.pth', '.safetensors'):
        raise ValueError(f'{dst}: the name of the result must end in .pth or .safetensors')
    if dst.is_dir() or (dst.exists() and os.path.exists(src) and dst.samefile(src)):
        raise ValueError(f'{dst}: the result needs a file of its own, other than the source')
    state_dict = read_state_dict(src)
    if MMSEG_VIT.fits(state_dict):
        raise ValueError(f"{src}: the keys are MMSegmentation's already, there is nothing to convert")
    try:
        converted, report = convert_known(state_dict, (TIMM_VIT,))
    except ValueError as error:
        raise ValueError(f'{src}: {error}') from None
    meta = {'converter': 'vit2mmseg', 'source': Path(src).name, 'source_sha256': checkpoint_hash(src)}
    # A copy of its own for each tensor: a view would be saved with all of its storage.
    write({key: tensor.contiguous().clone() for key, tensor in converted.items()}, meta, dst)
    return report


def write(tensors: dict[str, Tensor], meta: dict[str, Any], dst: Path) -> None:
    """Write beside ``dst`` first, then rename."""
    dst.parent.mkdir(parents=True, exist_ok=True)
    partial = dst.with_name(f'.{dst.stem}.{uuid.uuid4().hex}.partial')
    try:
        with partial.open('xb') as file:
            if dst.suffix == '.safetensors':
                file.write(save(tensors, metadata=meta))
            else:
                torch.save({'state_dict': tensors, 'meta': meta}, file)
        os.replace(partial, dst)
    finally:
        partial.unlink(missing_ok=True)


def main() -> int:
    args = parse_args()
    dst = Path(args.dst).expanduser()
    try:
        report = convert_file(args.src, dst)
    except (ValueError, OSError) as error:
        print(f'vit2mmseg: {error}', file=sys.stderr)
        return 1
    print(report.table())
    print(f'written to {dst} ({dst.stat().st_size / 2**20:.1f} MiB)')
    return 0


if __name__ == '__main__':
    sys.exit(main())
