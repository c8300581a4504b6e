"""Load a model for inference from any published file or checkpoint by one line."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor

from dpt.apis import PASS_CONFIG, Predictor, config_of
from dpt.checkpoints import read_checkpoint, read_state_dict
from dpt.checkpoints.formats import MMSEG_DPT
from dpt.checkpoints.formats.isl import is_isl, recognise_layout
from dpt.checkpoints.meta import meta_of
from dpt.config.load import load_config
from dpt.config.options import OptionText
from dpt.zoo import ZOO

REMOTE = ('http://', 'https://', 'hf://', 'timm://')
POINTER = 'last_checkpoint'
"""File in a work directory that contains the path of the newest checkpoint."""
MMSEG_CONFIG = 'dpt_vit-b16_512x512_160k_ade20k.py'
"""Config of the only DPT that MMSegmentation has published, a ViT-B/16 for the 150 classes of ADE20K."""
ADE20K_CLASSES = 150


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint is, in words for one line, and the config of its model."""

    what: str
    config: Config


def load(
    source: str | Path,
    config: str | Path | Config | None = None,
    *,
    device: Any = None,
    precision: str | None = None,
    batch_size: int = 1,
    cfg_options: dict | None = None,
) -> Predictor:
    """Load a model for inference and print one line that says what it is.

    The weights are loaded strictly. No code of the file runs.

    Args:
        source: A checkpoint of dpt or MMSegmentation, a file of :mod:`dpt.zoo` or of ``publish_model.py``, by
            path, URL or ``hf://OWNER/NAME``; a work directory, for its best or else its newest checkpoint; or
            a name of :data:`dpt.zoo.ZOO`, such as ``'dpt_large-ade20k'``.
        config: Config of the model, or path of a config file, if the file contains none.
        device: Device of the model; ``None`` for the GPU if there is one.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'`` (autocast); ``None`` follows the config's test loop.
        batch_size: Maximum number of images in a batch.
        cfg_options: Overrides of the config, by dotted key.

    Raises:
        FileNotFoundError: If there is no such file, and no model of this name.
        ValueError: If the file is not that of a known model, or does not fit its config.

    Example:
        >>> import dpt
        >>> model = dpt.load('work_dirs/mine')
        >>> result = model('street.jpg')
        >>> result.areas()
        >>> result.save('overlay.png')
    """
    checkpoint = find_checkpoint(source)
    found = Recognised('', config) if config else recognise_model(checkpoint)  # type: ignore[arg-type]
    options: dict[str, Any] = dict(device=device, precision=precision, batch_size=batch_size)
    model = Predictor(checkpoint, found.config, **options, cfg_options=cfg_options)
    size = sum(parameter.numel() for parameter in model.model.parameters()) / 1e6
    what = found.what or 'the model of the given config'
    print_log(f'{source}: {what}; {len(model.classes)} classes, {size:.1f} M parameters', 'current')
    return model


def find_checkpoint(source: str | Path) -> str:
    """Return the path or URL of the checkpoint of a name, a work directory, a path or a URL.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a work directory has several best checkpoints.
    """
    name = str(source)
    if name.startswith(REMOTE):
        return name
    path = Path(source).expanduser()
    if path.is_dir():
        return str(_checkpoint_of_work_dir(path) or path)
    if path.exists():
        return str(path)
    if name in ZOO:
        if ZOO[name].missing:
            raise ValueError(f'{name} cannot be loaded: {ZOO[name].missing}')
        return ZOO[name].source
    near = difflib.get_close_matches(name, [key for key, one in ZOO.items() if not one.missing], n=3)
    hint = (
        f': did you mean {" or ".join(near)}?' if near else '; dpt.zoo.ZOO contains the names of all models'
    )
    raise FileNotFoundError(f'{name}: no such file, and no published model of this name{hint}')


def _checkpoint_of_work_dir(folder: Path) -> Path | None:
    best = sorted(folder.glob('best_*.pth'))
    if len(best) > 1:
        names = ', '.join(file.name for file in best)
        raise ValueError(f'{folder}: several best checkpoints ({names}): give the path of one of them')
    if best:
        return best[0]
    pointer = folder / POINTER
    if not pointer.is_file():
        return None
    newest = Path(pointer.read_text(encoding='utf-8').strip())
    return folder / newest.name  # the folder may have been moved


def recognise_model(checkpoint: str | Path) -> Recognised:
    """Recognise a complete model by its config or its keys.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read, or its model is unknown.
    """
    content = read_checkpoint(checkpoint)
    meta = meta_of(content, checkpoint)
    if isinstance(meta.get('cfg'), str):
        producer = 'MMSegmentation' if 'mmseg_version' in meta else 'dpt'
        return Recognised(f'a checkpoint of {producer} with its config', config_of(checkpoint))
    del content
    tensors = read_state_dict(checkpoint)
    if is_isl(tensors):
        return _of_isl(checkpoint, tensors)
    if MMSEG_DPT.fits(tensors):
        return _of_mmseg(checkpoint, tensors)
    some = ', '.join(sorted(tensors)[:3])
    raise ValueError(
        f'{checkpoint} holds no config, and its {len(tensors)} keys, such as {some}, '
        f'are not those of a known model: pass its config with dpt.load(checkpoint, config) or {PASS_CONFIG}'
    )


def _of_isl(checkpoint: str | Path, tensors: dict[str, Tensor]) -> Recognised:
    try:
        layout = recognise_layout(tensors)
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}') from None
    _check_classes(checkpoint, tensors['scratch.output_conv.4.weight'], layout.config)
    options = dict(option.split('=', 1) for option in layout.options)
    config = load_config(layout.config, {key: OptionText(value) for key, value in options.items()})
    return Recognised(f'original DPT, {layout.name}, with {Path(layout.config).name}', config)


def _of_mmseg(checkpoint: str | Path, tensors: dict[str, Tensor]) -> Recognised:
    _check_classes(checkpoint, tensors['decode_head.conv_seg.weight'], MMSEG_CONFIG)
    return Recognised(f"MMSegmentation's DPT, with {MMSEG_CONFIG}", load_config(MMSEG_CONFIG))


def _check_classes(checkpoint: str | Path, classifier: Tensor, config: str) -> None:
    """Refuse another number of classes: neither their names nor the test pipeline would be known."""
    if len(classifier) != ADE20K_CLASSES:
        raise ValueError(
            f'{checkpoint} predicts {len(classifier)} classes instead of the {ADE20K_CLASSES} of ADE20K, and '
            f'holds no config: pass a config like {Path(config).name} with your classes and test pipeline, '
            'dpt.load(checkpoint, config)'
        )
