"""A model from its checkpoint alone: the config in it is read as data, and nothing of it is run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

import dpt.datasets  # noqa: F401  (registers, so that names can be looked up without importing any)
import dpt.models  # noqa: F401
from dpt.checkpoints import dataset_meta, read_meta
from dpt.checkpoints.meta import config_values
from dpt.config.mmseg import is_mmseg_config, translate_mmseg_config
from dpt.config.walk import innermost_datasets
from dpt.registry import DATASETS, MODELS, TRANSFORMS


def config_of(checkpoint: str | Path) -> Config:
    """Return the part of a checkpoint's config that predicting needs.

    A config names the classes to build, and the registry would import whatever has a dot in its name. A file
    may come from anywhere, so that here only names that are registered already are let through.

    Args:
        checkpoint: Path or URL of a file of ``tools/publish_model.py``, or any checkpoint of training, of
            this package or MMSegmentation 1.x.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no config, or one that is not plain data or names what is not registered.
    """
    meta = read_meta(checkpoint)
    text = meta.get('cfg')
    if not isinstance(text, str):
        raise ValueError(
            f'{checkpoint} holds no config: give the config file too, or publish the model with '
            'tools/publish_model.py, which puts it in'
        )
    try:
        values = config_values(text)
        _refuse_dotted_types(values, 'config')
        config = Config(values)
        if is_mmseg_config(config):
            config, _ = translate_mmseg_config(config)
        return _needed(config, bool(dataset_meta(meta)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{checkpoint}: its config cannot be used: {error}; give a config file that you trust'
        ) from None


def _needed(config: Config, has_classes: bool) -> Config:
    """Model, test pipeline and precision alone, with every name checked."""
    for key in ('model', 'test_dataloader'):
        if key not in config:
            raise ValueError(f'it lacks {key}')
    dataset = innermost_datasets(config.test_dataloader.dataset)[0]
    model = _without_init(config.model.to_dict())
    _check_types(model, 'model', MODELS)
    pipeline = [dict(step) for step in dataset['pipeline']]
    _check_types(pipeline, 'test_dataloader.dataset.pipeline', TRANSFORMS)
    kept: dict[str, Any] = dict(pipeline=pipeline)
    if dataset.get('metainfo'):
        kept['metainfo'] = dict(dataset['metainfo'])
    elif not has_classes:
        _check_types(dict(type=dataset['type']), 'test_dataloader.dataset', DATASETS)
        kept['type'] = dataset['type']
    return Config(
        dict(
            default_scope='dpt',
            model=model,
            test_dataloader=dict(dataset=kept),
            test_cfg=dict(fp16=bool((config.get('test_cfg') or {}).get('fp16'))),
        )
    )


def _without_init(value: Any) -> Any:
    """Leave out ``init_cfg`` at any depth: the weights are in the checkpoint."""
    if isinstance(value, dict):
        return {key: _without_init(item) for key, item in value.items() if key != 'init_cfg'}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_init(item) for item in value)
    return value


def _types(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every ``type`` at any depth, and of ``_scope_``, which renames them."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name in ('type', '_scope_'):
                yield f'{key}.{name}', item
            yield from _types(item, f'{key}.{name}')
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _types(item, f'{key}.{i}')


def _refuse_dotted_types(values: Any, key: str) -> None:
    for place, name in _types(values, key):
        if isinstance(name, str) and '.' in name.removeprefix('mmseg.'):
            raise ValueError(f'{place}={name!r} is the address of code, and no code of a file is run')


def _check_types(value: Any, key: str, registry: Registry) -> None:
    known = {**(registry.parent.module_dict if registry is TRANSFORMS else {}), **registry.module_dict}
    for place, name in _types(value, key):
        if not isinstance(name, str) or place.endswith('._scope_') or name not in known:
            raise ValueError(f'{place}={name!r} is none of the parts registered here')
