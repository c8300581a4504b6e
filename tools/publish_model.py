"""Publish a checkpoint: keep weights, class names, colours, metric and config, and drop everything else.

The name of the file ends in the first 8 hex digits of its SHA-256: name.safetensors becomes
name-xxxxxxxx.safetensors. With --push, the model is uploaded to Hugging Face, with a model card made from the
run. LoRA adapters are merged into the weights, so that the file is that of a model
without them; --adapters instead keeps the adapters and leaves out the weights they were trained on.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mmengine.config import Config
from torch import Tensor

from dpt.apis import Predictor, config_of, init_model
from dpt.checkpoints import load_backbone, read_checkpoint
from dpt.checkpoints.adapters import BASE_SHA256, base_sha256, has_adapters, is_base, ordinary_keys
from dpt.checkpoints.formats import DPT, MMSEG_DPT, recognise
from dpt.checkpoints.meta import config_values, meta_of
from dpt.checkpoints.read import unwrappings
from dpt.checkpoints.write import check_target, serialise
from dpt.files import explain_os_error, write_whole
from dpt.hub import kept_meta, model_files, push_files
from dpt.models.lora import merged
from dpt.visualization.files import encode_picture

EXAMPLE = """example:
  python tools/publish_model.py work_dirs/mine/best_mIoU_iter_16000.pth published/dpt_mine.safetensors
  python tools/publish_model.py work_dirs/mine/best_mIoU_iter_16000.pth published/dpt_mine.safetensors \\
      --push me/dpt-mine --license apache-2.0 --pictures street.jpg park.jpg
"""


@dataclass(frozen=True)
class Published:
    """Path of a published file, with lines that describe the kept and the dropped content."""

    path: Path
    kept: list[str]
    dropped: list[str]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='checkpoint of a whole model: a path or http(s) URL')
    parser.add_argument('dst', help='name.safetensors or name.pth; the hash is appended to the name')
    parser.add_argument(
        '--adapters',
        action='store_true',
        help='write a small file: LoRA adapters, neck and head without the weights of the backbone, which '
        'model.backbone.init_cfg of the config must name when the file is loaded',
    )
    parser.add_argument(
        '--push', metavar='OWNER/NAME', help='also upload it to this repository of Hugging Face'
    )
    parser.add_argument('--license', help='with --push: licence of the weights, such as apache-2.0')
    parser.add_argument(
        '--pictures', nargs='+', metavar='IMAGE', default=[], help='with --push: show predictions of these'
    )
    parser.add_argument('--private', action='store_true', help='with --push: create a private repository')
    args = parser.parse_args()
    if args.push and not args.license:
        parser.error('--push needs --license, such as apache-2.0, cc-by-nc-4.0 or other')
    if args.push and args.adapters:
        parser.error('--push cannot upload --adapters, which nobody could load without the other weights')
    if not args.push and (args.license or args.pictures or args.private):
        parser.error('--license, --pictures and --private need --push')
    return args


def publish(checkpoint: str, dst: Path, adapters: bool = False) -> Published:
    """Write the weights and the metadata of the model.

    Args:
        checkpoint: Path or URL.
        dst: Name of the file, without the hash.
        adapters: Whether to keep LoRA adapters and leave out the weights they were trained on.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If the checkpoint cannot be read or is not a whole model, or ``dst`` is invalid, or the
            weights under the adapters are not those of ``backbone.init_cfg``.
        FileExistsError: If the same model has already been published there.
        OSError: If the file cannot be written.
    """
    check_target(dst, checkpoint)
    content = read_checkpoint(checkpoint)
    meta = meta_of(content, checkpoint)
    state_dict = whole_model(content, checkpoint, meta)
    kept = kept_meta(meta)
    if adapters:
        if not has_adapters(state_dict):
            raise ValueError(f'{checkpoint}: --adapters is set, but the model has no LoRA adapters')
        kept[BASE_SHA256] = checked_base(checkpoint, meta)
        names = zip(state_dict, ordinary_keys(state_dict), strict=True)
        state_dict = {name: state_dict[name] for name, key in names if not is_base(key)}
    elif has_adapters(state_dict):
        state_dict, kept['cfg'] = without_adapters(checkpoint, meta)
    data = serialise(state_dict, kept, dst.suffix)
    target = dst.with_name(f'{dst.stem}-{hashlib.sha256(data).hexdigest()[:8]}{dst.suffix}')
    if target.exists():
        raise FileExistsError(f'{target} exists; published files are never overwritten')
    write_whole(data, target)
    return Published(target, describe(state_dict, kept), left_out(content, meta, kept))


def whole_model(content: Mapping[str, Any], checkpoint: str, meta: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a whole model, without wrappers.

    Raises:
        ValueError: If neither the keys nor a config show that this is a whole model.
    """
    candidates = [state_dict for state_dict, _ in unwrappings(content, checkpoint)]
    for state_dict in candidates:
        if {'backbone', 'decode_head'} <= {key.partition('.')[0] for key in state_dict}:
            return state_dict
    if isinstance(meta.get('cfg'), str):  # trained from a config, so the keys may be those of a custom model
        return candidates[0]
    try:
        recognise(candidates[-1], (MMSEG_DPT, DPT))
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}') from None
    return candidates[-1]


def checked_base(checkpoint: str, meta: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the weights under the LoRA adapters, which ``backbone.init_cfg`` must name.

    Raises:
        ValueError: If it names none or others, so that nobody could load the adapters.
    """
    model = init_model(config_of(checkpoint), checkpoint, device='cpu')
    wanted = base_sha256(model.state_dict())
    init = config_values(meta['cfg'])['model']['backbone'].get('init_cfg') or {}
    if init.get('type') != 'Pretrained':
        raise ValueError(
            f'{checkpoint}: --adapters needs the weights that the adapters were trained on in '
            'model.backbone.init_cfg of the config, which has none: publish without --adapters'
        )
    load_backbone(cast(Any, model).backbone, init['checkpoint'])
    if base_sha256(model.state_dict()) != wanted:
        raise ValueError(
            f'{checkpoint}: the adapters were not trained on the weights of model.backbone.init_cfg '
            f'({init["checkpoint"]}), but on those of load_from, for example: publish without --adapters'
        )
    return wanted


def without_adapters(checkpoint: str, meta: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Return the weights of a model with its LoRA adapters merged, and the config without them.

    Raises:
        ValueError: If the checkpoint has no config, or none of plain data.
    """
    model = init_model(config_of(checkpoint), checkpoint, device='cpu')
    values = config_values(meta['cfg'])
    values['model']['backbone'].pop('lora')
    return merged(model).state_dict(), Config(values).pretty_text


def describe(state_dict: Mapping[str, Tensor], kept: Mapping[str, Any]) -> list[str]:
    """Return a line for each kind of content, even if the checkpoint lacks it."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in state_dict.values())
    names = kept.get('dataset_meta', {})
    metric = ', '.join(f'{key} {value}' for key, value in kept.get('metric', {}).items())
    lines = [
        f'weights: {len(state_dict)} tensors, {size / 2**20:.1f} MiB',
        f'class names: {len(names["classes"]) if names else "none in the checkpoint"}',
        f'palette: {len(names["palette"]) if "palette" in names else "none in the checkpoint"}',
        f'metric: {metric or "none in the checkpoint"}',
    ]
    if 'cfg' in kept:
        count = len(kept['cfg'].splitlines())
        lines.append(f'config: {count} lines of text, including the paths of data and weights')
    else:
        lines.append('config: none in the checkpoint')
    return [*lines, f'iteration: {kept["iter"]}'] if 'iter' in kept else lines


def left_out(content: Mapping[str, Any], meta: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    """Return the names of the entries that are not in the published file."""
    containers = ('state_dict', 'model', 'meta')
    if not any(isinstance(content.get(name), Mapping) for name in containers):
        return []
    outer = [str(key) for key in content if key not in containers]
    return [*outer, *(f'meta.{key}' for key in meta if key not in kept and key not in ('CLASSES', 'PALETTE'))]


def push(published: Path, repo_id: str, licence: str, pictures: list[str], private: bool) -> str:
    """Upload a published model with its model card, and return the URL of the repository.

    Raises:
        FileNotFoundError: If a picture does not exist.
        ValueError: If a picture cannot be read, the model has no config, or the upload fails.
    """
    content = read_checkpoint(published)
    meta = kept_meta(meta_of(content, published))
    tensors = content['state_dict']
    shown = []
    if pictures:
        predictor = Predictor(published)
        shown = [encode_picture('.png', result.overlay(legend=True)) for result in predictor.stream(pictures)]
    files = model_files(repo_id, tensors, meta, licence, shown)
    return push_files(repo_id, files, private=private)


def main() -> int:
    args = parse_args()
    url = None
    try:
        published = publish(args.checkpoint, Path(args.dst).expanduser(), args.adapters)
        if args.push:
            url = push(published.path, args.push, args.license, args.pictures, args.private)
    except (ValueError, OSError) as error:
        message = explain_os_error(error) if isinstance(error, OSError) else error
        print(f'publish_model: {message}', file=sys.stderr)
        return 1
    print('\n  '.join(['kept', *published.kept]))
    print(f'dropped: {", ".join(published.dropped) or "nothing"}')
    print(f'written to {published.path}')
    if url:
        print(f'pushed to {url}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
