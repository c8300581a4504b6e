"""Load a model for inference from any published file or checkpoint by one line."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from dpt.apis import PASS_CONFIG, Predictor, has_config, stored_config
from dpt.checkpoints import read_checkpoint
from dpt.checkpoints.formats import DPT, MMSEG_DPT
from dpt.checkpoints.meta import meta_of
from dpt.checkpoints.published import is_published, published_of
from dpt.checkpoints.read import state_dict_of
from dpt.config.load import load_config
from dpt.zoo import ZOO

REMOTE = ('http://', 'https://', 'hf://', 'timm://')
POINTER = 'last_checkpoint'
"""File in a work directory that contains the path of the newest checkpoint."""
MMSEG_CONFIG = 'dpt_vit-b16_512x512_160k_ade20k.py'
"""Config of the only DPT that MMSegmentation has published, a ViT-B/16 for the 150 classes of ADE20K."""
ADE20K_CLASSES = 150
CLASSES_OF = {150: 'ADE20KDataset', 19: 'CityscapesDataset', 21: 'PascalVOCDataset'}
"""Data set of published segmentation models without a config, by the number of classes."""


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint is, in words for one line, and the config of its model."""

    what: str
    config: Config


def load(
    source: str | Path,
    config: str | Path | Config | None = None,
    *,
    variant: str | None = None,
    device: Any = None,
    precision: str | None = None,
    batch_size: int = 1,
    cfg_options: dict | None = None,
) -> Predictor:
    """Load a model for inference and print one line that says what it is.

    The weights are loaded strictly. No code of the file runs.

    Args:
        source: A checkpoint of dpt or MMSegmentation, a file of ``publish_model.py``, of the original DPT,
            MiDaS 3.0, Depth Anything or transformers, by path, URL or ``hf://OWNER/NAME``; a work directory,
            for its best or else its newest checkpoint; or a name of :data:`dpt.zoo.ZOO`, such as
            ``'dpt_large-ade20k'`` or ``'depth-anything-v2-small'``.
        config: Config of the model, or path of a config file, if the file contains none.
        variant: What neither keys nor name of a published file tell, such as the range of metric depth: a key
            of :data:`dpt.checkpoints.published.VARIANTS`.
        device: Device of the model; ``None`` for the GPU if there is one.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'`` (autocast); ``None`` follows the config's test loop.
        batch_size: Maximum number of images in a batch.
        cfg_options: Overrides of the config, by dotted key.

    Raises:
        FileNotFoundError: If neither a file nor a published model has this name.
        ValueError: If the file is not that of a known model, or does not fit its config.

    Example:
        >>> import dpt
        >>> model = dpt.load('work_dirs/mine')
        >>> result = model('street.jpg')
        >>> result.areas()
        >>> result.save('overlay.png')
    """
    checkpoint = find_checkpoint(source)
    found = Recognised('', config) if config else recognise_model(checkpoint, variant)  # type: ignore[arg-type]
    options: dict[str, Any] = dict(device=device, precision=precision, batch_size=batch_size)
    model = Predictor(checkpoint, found.config, **options, cfg_options=cfg_options)
    size = sum(parameter.numel() for parameter in model.model.parameters()) / 1e6
    what = found.what or 'the model of the given config'
    task = f'{len(model.classes)} classes' if model.classes else 'depth'
    print_log(f'{source}: {what}; {task}, {size:.1f} M parameters', 'current')
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
    hint = f': did you mean {" or ".join(near)}?' if near else '; dpt.zoo.ZOO lists the models'
    raise FileNotFoundError(f'{name}: neither a file nor a published model has this name{hint}')


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


def recognise_model(checkpoint: str | Path, variant: str | None = None) -> Recognised:
    """Recognise a complete model by its config or its keys.

    Args:
        checkpoint: As for :func:`load`.
        variant: As for :func:`load`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read, or its model is unknown.
    """
    content = read_checkpoint(checkpoint)
    meta = meta_of(content, checkpoint)
    if has_config(meta):
        producer = 'MMSegmentation' if 'mmseg_version' in meta else 'dpt'
        return Recognised(f'a checkpoint of {producer} with its config', stored_config(meta, checkpoint))
    tensors = state_dict_of(content, checkpoint)
    if MMSEG_DPT.fits(tensors):
        _check_classes(checkpoint, len(tensors['decode_head.conv_seg.weight']), MMSEG_CONFIG)
        return Recognised(f"MMSegmentation's DPT, with {MMSEG_CONFIG}", load_config(MMSEG_CONFIG))
    if DPT.fits(tensors) or not is_published(tensors):
        some = ', '.join(sorted(tensors)[:3])
        raise ValueError(
            f'{checkpoint} holds no config, and its {len(tensors)} keys, such as {some}, are not those of a '
            f'known model: pass its config with dpt.load(checkpoint, config) or {PASS_CONFIG}'
        )
    found = published_of(tensors, checkpoint, variant)
    config = Config(found.config())
    classes = config.model.decode_head.get('num_classes')
    if classes and not found.classes:
        dataset = config.test_dataloader.dataset
        dataset.type = CLASSES_OF.get(classes, 'ADE20KDataset')
        _check_classes(checkpoint, classes, MMSEG_CONFIG, CLASSES_OF)
    return Recognised(', '.join(filter(None, (found.source, found.variant))), config)


def _check_classes(
    checkpoint: str | Path, classes: int, config: str, known: Collection[int] = (ADE20K_CLASSES,)
) -> None:
    """Refuse another number of classes: neither their names nor the test pipeline would be known."""
    if classes not in known:
        expected = ' or '.join(map(str, known))
        raise ValueError(
            f'{checkpoint} predicts {classes} classes instead of {expected}, and holds no config: pass one '
            f'like {config} with your classes and test pipeline, dpt.load(checkpoint, config)'
        )
