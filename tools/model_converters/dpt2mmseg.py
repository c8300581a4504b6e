"""Convert a trained DPT to the keys of MMSegmentation, where the neck is part of the head.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dpt.checkpoints import (
    Report,
    checkpoint_hash,
    convert,
    dataset_meta,
    read_checkpoint,
    save_weights,
)
from dpt.checkpoints.formats.mmseg import DPT, MMSEG_DPT, TO_MMSEG
from dpt.checkpoints.meta import config_values, meta_of
from dpt.checkpoints.read import state_dict_of
from dpt.checkpoints.write import check_target
from dpt.files import explain_os_error

EXAMPLE = """example:
  python tools/model_converters/dpt2mmseg.py work_dirs/mine/best_mIoU_iter_16000.pth mmseg/dpt.pth
"""
PATCH_BIAS = 'backbone.patch_embed.projection.bias'

# Keys that MMSegmentation's DPT does not have.
REFUSED_KEYS = (
    (r'backbone\.layers\.\d+\.ls[12]\.gamma', 'its VisionTransformer has no LayerScale (layer_scale_init)'),
    (r'backbone\.(stem|stages)\..+', 'it has no hybrid backbone with a ResNet stem'),
)
# (part of the model, setting, value in MMSegmentation, reason why others are not supported)
REFUSED_SETTINGS: tuple[tuple[str, str, Any, str], ...] = (
    ('backbone', 'norm_taps', False, 'its VisionTransformer normalises only the last tap'),
    ('neck', 'identity_levels', [], 'its head reassembles every level'),
    ('decode_head', 'upsample_factor', 1, 'its head does not upsample its logits'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='path or http(s) URL of a checkpoint of dpt')
    parser.add_argument('dst', help='output file, .pth; its folder is created')
    return parser.parse_args()


def check_model(keys: Mapping[str, Tensor], model: Mapping[str, Any]) -> None:
    """Check that MMSegmentation's DPT computes the same as this model.

    Args:
        keys: State dict of the checkpoint.
        model: ``model`` of the config in the checkpoint; empty if it has no config.

    Raises:
        ValueError: If it does not; the message gives the reason.
    """
    if MMSEG_DPT.fits(keys):
        raise ValueError('the keys are already those of MMSegmentation; there is nothing to convert')
    if not DPT.fits(keys) or not any(key.startswith('neck.fusion_blocks.') for key in keys):
        raise ValueError(f'not a DPT of this package: expected keys such as {", ".join(DPT.signature)}')
    for pattern, reason in REFUSED_KEYS:
        found = [key for key in keys if re.fullmatch(pattern, key)]
        if found:
            raise ValueError(
                f'MMSegmentation does not support it: {reason}; {len(found)} keys such as {found[0]}'
            )
    for part, name, theirs, reason in REFUSED_SETTINGS:
        ours = (model.get(part) or {}).get(name, theirs)
        if ours != theirs:
            raise ValueError(
                f'MMSegmentation does not support it: {reason}, but the model has {part}.{name}={ours}'
            )


def model_config(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``model`` of the config in a checkpoint; empty if there is no readable config."""
    try:
        return config_values(meta['cfg'])['model']
    except (KeyError, TypeError, ValueError):
        return {}


def convert_back(src: str) -> tuple[dict[str, Tensor], Report, dict[str, Any]]:
    """Read and convert ``src``.

    Returns:
        The tensors with MMSegmentation's keys, the report of the conversion, and the metadata of ``src``.

    Raises:
        FileNotFoundError: If ``src`` does not exist.
        ValueError: If it cannot be read, or MMSegmentation does not support the model.
    """
    content = read_checkpoint(src)
    state_dict, meta = state_dict_of(content, src), meta_of(content, src)
    try:
        check_model(state_dict, model_config(meta))
        converted, report = convert(state_dict, TO_MMSEG)
    except ValueError as error:
        raise ValueError(f'{src}: {error}') from None
    if report.unmapped:
        raise ValueError(
            f'{src}: MMSegmentation does not support it: its DPT has no counterpart for '
            f'{", ".join(report.unmapped[:20])}'
        )
    again, _ = convert(converted, MMSEG_DPT)
    assert all(again[ours] is state_dict[ours] for ours in report.mapped), 'the table is not invertible'
    return converted, report, meta


def notes(converted: Mapping[str, Tensor], model: Mapping[str, Any]) -> list[str]:
    """Return the settings with which MMSegmentation computes the same, as lines of text."""
    backbone = model.get('backbone') or {}
    lines = []
    if PATCH_BIAS in converted:
        lines.append(
            'backbone.patch_bias=True: without it MMSegmentation 1.2 ignores the bias of the patch '
            'projection in this file, which changes the predictions'
        )
    if 'backbone.ln1.weight' in converted:
        lines.append('backbone.final_norm=True: the file has a final norm')
        if not backbone:
            lines.append('the file has no config: MMSegmentation does not support models with norm_taps=True')
    eps = backbone.get('norm_eps') or 'norm_eps of your config'
    return [*lines, f"backbone.norm_cfg=dict(type='LN', eps={eps}): its default is 1e-5"]


def main() -> int:
    args = parse_args()
    dst = Path(args.dst).expanduser()
    try:
        check_target(dst, args.src)
        if dst.suffix != '.pth':
            raise ValueError(f'{dst}: MMSegmentation reads .pth files')
        converted, report, meta = convert_back(args.src)
        kept = {
            'converter': 'dpt2mmseg',
            'source': Path(args.src).name,
            'source_sha256': checkpoint_hash(args.src),
        }
        classes = dataset_meta(meta)
        save_weights(converted, kept | ({'dataset_meta': classes} if classes else {}), dst)
    except (ValueError, OSError) as error:
        message = explain_os_error(error) if isinstance(error, OSError) else error
        print(f'dpt2mmseg: {message}', file=sys.stderr)
        return 1
    print(report.table())
    print('\n  '.join(["MMSegmentation's config needs", *notes(converted, model_config(meta))]))
    print(f'written to {dst} ({dst.stat().st_size / 2**20:.1f} MiB)')
    return 0


if __name__ == '__main__':
    sys.exit(main())
