"""Find mistakes in a config before data are read or a model is built."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import get_file_backend
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from dpt.checkpoints.read import local_file
from dpt.config.assertions import failed_assertion
from dpt.config.depth import check_depth
from dpt.config.facts import (
    argument,
    check_channels,
    check_labels,
    check_number_of_classes,
    check_same_classes,
    check_same_labels,
)
from dpt.config.inherited import file_origins, read_files
from dpt.config.numbers import check_effect, check_numbers
from dpt.config.parts import (
    CONSUMED,
    INNER,
    LOADER_KEYS,
    PARAMWISE_KEYS,
    PLAIN_KEYS,
    ROOTS,
    Problem,
    accepted_types,
    arguments,
    check_keys,
    check_parts,
    is_own,
    known_names,
    lookup,
    near,
)
from dpt.config.probe import check_pipeline
from dpt.config.walk import DATALOADERS, named_datasets, walk
from dpt.registry import DATASETS, OPTIM_WRAPPER_CONSTRUCTORS, TRANSFORMS

LOADERS_OF = dict(train=('train_dataloader', 'val_dataloader'), test=('test_dataloader',))
"""Data loaders used by each task."""
MODEL_PARTS = ('backbone', 'neck', 'decode_head', 'data_preprocessor', 'loss', 'auxiliary_loss')
LEVELS = ('CRITICAL', 'ERROR', 'WARNING', 'INFO', 'DEBUG', 'NOTSET')
HOW_TO_GET_WEIGHTS = "see 'Pretrained weights' in docs/configs.md"
BUILD_ERRORS = (ValueError, TypeError, KeyError, AssertionError, OSError, ImportError)


def check_config(config: Config, task: str, resume: str | None = None) -> None:
    """Check a config without reading data or building the model.

    Args:
        config: Config with the options merged.
        task: ``'train'`` or ``'test'``. Selects the data loaders to check; ``'train'`` also checks that the
            files of weights exist.
        resume: Checkpoint that the training resumes from: a path, ``'auto'``, or ``None``.

    Raises:
        ValueError: If there are mistakes. The message has a line for each: file, dotted key, the mistake and,
            for a misspelt name, the closest known name.
    """
    with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'dpt'):
        problems = [
            *_check_top(config),
            *_check_loaders(config),
            *check_numbers(config),
            *_check_rest(config),
        ]
        if not problems:  # the next checks build parts of the config
            problems = [*_check_data(config, task), *_check_model(config, task, resume)]
    found: dict[str, str] = {}
    for key, what in problems:
        found.setdefault(what, key)  # report a pipeline shared by several loaders once
    if found:
        file = getattr(config, 'filename', None)
        inherited = _inherited(file) if file and Path(file).is_file() else {}
        lines = [f'{file or "config"}: {key}: {what}{inherited.get(key, "")}' for what, key in found.items()]
        raise ValueError('\n'.join(lines))


def _inherited(path: str) -> dict[str, str]:
    """Return a remedy for each inherited key of a dict whose ``type`` a later file has changed."""
    files = read_files(path)[1]
    origins = file_origins(files)
    order = [file for file, _ in files]
    remedies = {}
    for key, file in origins.items():
        for length in range(1, len(key)):
            changed = origins.get((*key[:length], 'type'), file)
            if order.index(changed) > order.index(file):
                remedies['.'.join(key)] = (
                    f'; it is inherited from {file}: set _delete_=True in {".".join(key[:length])} '
                    'to discard the inherited keys'
                )
    return remedies


def _check_top(config: Config) -> Iterator[Problem]:
    if not isinstance(config.get('model'), Mapping):
        yield 'model', 'this key is missing'
    absent = CONSUMED - set(config)
    for key in config:
        # A config may define any helper variable, so report only names close to a key that is read.
        turned = [name for name in absent if sorted(name) == sorted(key)]
        hint = f'; did you mean {turned[0]}?' if turned else near(key, absent, cutoff=0.9)
        if key not in CONSUMED and hint and not key[-1].isdigit():
            yield key, f'nothing reads this key{hint}'
    for key, parameter in arguments(Runner)[0].items():
        value, accepted = config.get(key), set(accepted_types(parameter.annotation) or ())
        if accepted <= {str, type(None)} and isinstance(value, (int, float)):
            yield key, f'{value!r} is not a string'
        if key in config and value is None and accepted == {dict}:
            yield key, 'None is not allowed: remove this key to use the default'
    level = config.get('log_level')
    if isinstance(level, str) and level not in LEVELS:
        yield 'log_level', f'{level!r} is not a log level{near(level, LEVELS)}'
    for key, names in PLAIN_KEYS.items():
        yield from check_keys(lookup(config, key), key, names)


def _check_loaders(config: Config) -> Iterator[Problem]:
    for key in DATALOADERS:
        loader = config.get(key) or {}
        for place, dataset in named_datasets(loader.get('dataset'), f'{key}.dataset'):
            if 'type' not in dataset:
                yield place, "the key 'type' is missing"
        yield from check_keys(loader, key, LOADER_KEYS)
        for name, registry in INNER.items():
            yield from check_parts(loader.get(name), f'{key}.{name}', registry)
        if loader.get('drop_last') and key != 'train_dataloader':
            yield f'{key}.drop_last', 'an evaluation must cover all images: set drop_last=False'


def _check_rest(config: Config) -> Iterator[Problem]:
    for key, registry in ROOTS.items():
        value = config.get(key)
        if key.endswith('_evaluator') and isinstance(value, Mapping) and 'metrics' in value:
            value = value['metrics']
        if key == 'optim_wrapper' and isinstance(value, Mapping):
            if 'optimizer' not in value:  # several named optimisers, read by a custom constructor
                continue
            value = {'type': 'OptimWrapper', **value}
        yield from check_parts(value, key, registry)
    for key in MODEL_PARTS:
        part = lookup(config, f'model.{key}')
        if isinstance(part, Mapping) and 'type' not in part:
            yield f'model.{key}', "the key 'type' is missing"
    yield from _check_groups(config)


def _check_groups(config: Config) -> Iterator[Problem]:
    constructor = lookup(config, 'optim_wrapper.constructor') or 'DefaultOptimWrapperConstructor'
    known = known_names(OPTIM_WRAPPER_CONSTRUCTORS)
    if isinstance(constructor, str) and OPTIM_WRAPPER_CONSTRUCTORS.get(constructor) is None:
        yield 'optim_wrapper.constructor', f'unknown constructor {constructor!r}{near(constructor, known)}'
    if constructor != 'DefaultOptimWrapperConstructor':
        return
    key = 'optim_wrapper.paramwise_cfg'
    yield from check_keys(lookup(config, key), key, PARAMWISE_KEYS)
    for name, one in (lookup(config, f'{key}.custom_keys') or {}).items():
        yield from check_keys(one, f'{key}.custom_keys.{name}', ('lr_mult', 'decay_mult'))


def _check_data(config: Config, task: str) -> Iterator[Problem]:
    classes: dict[str, Sequence[str]] = {}
    datasets: dict[str, BaseDataset] = {}
    # With test-time augmentation, the model is inside another one.
    preprocessor = config.model.get('module', config.model).get('data_preprocessor') or {}
    for loader in LOADERS_OF[task]:
        if config.get(loader) and config[loader].get('dataset') is None:
            yield f'{loader}.dataset', 'this key is missing'
        for key, dataset in named_datasets((config.get(loader) or {}).get('dataset'), f'{loader}.dataset'):
            steps, problems = _build_pipeline(dataset.get('pipeline'), f'{key}.pipeline')
            yield from problems
            yield from _check_storage(dataset, key)
            if loader != 'train_dataloader' and dataset.get('max_bad_samples'):
                yield f'{key}.max_bad_samples', 'only training may skip images; evaluation counts all'
            kind = DATASETS.get(dataset['type']) if isinstance(dataset['type'], str) else dataset['type']
            if not (isinstance(kind, type) and issubclass(kind, BaseDataset)):
                continue
            try:
                built = DATASETS.build({**copy.deepcopy(dataset), 'pipeline': [], 'lazy_init': True})
            except Exception as error:  # a user's class may not accept the two arguments set above
                if is_own(kind):
                    if not isinstance(error, BUILD_ERRORS):
                        raise
                    yield key, str(error)
                continue
            names = built.metainfo.get('classes') or ()
            if names and len(names) not in map(len, classes.values()):
                yield from check_number_of_classes(config, key, len(names))
            classes[key], datasets[key] = names, built
            yield from check_labels(config, key, dataset, built)
            if not problems:
                training = loader == 'train_dataloader'
                yield from check_pipeline(steps, f'{key}.pipeline', built, preprocessor, training)
    yield from check_same_classes(classes)
    yield from check_same_labels(datasets)
    yield from check_depth(config, datasets)
    if task == 'test':
        steps, problems = _build_pipeline(config.get('tta_pipeline'), 'tta_pipeline')
        yield from problems
        if classes and not problems:
            yield from check_pipeline(steps, 'tta_pipeline', built, preprocessor, training=False)


def _check_storage(dataset: Mapping, key: str) -> Iterator[Problem]:
    """Check that the file backends can be used; some need packages that may not be installed."""
    for place, part in walk(dataset, key):
        if isinstance(part.get('backend_args'), Mapping):
            try:
                get_file_backend(backend_args=dict(part['backend_args']))
            except Exception as error:  # noqa: BLE001 (whatever a backend raises, reading would raise it, too)
                yield f'{place}.backend_args', str(error)


def _build_pipeline(pipeline: Any, key: str) -> tuple[list, list[Problem]]:
    steps, problems = [], []
    for number, transform in enumerate(pipeline or ()):
        if not isinstance(transform, Mapping):
            steps.append(transform)
            continue
        try:
            steps.append(TRANSFORMS.build(copy.deepcopy(transform)))  # some transforms modify their arguments
        except BUILD_ERRORS as error:
            what = failed_assertion(error) if isinstance(error, AssertionError) and not str(error) else None
            problems.append((f'{key}.{number}', what or str(error)))
    return steps, problems


def _check_model(config: Config, task: str, resume: str | None) -> Iterator[Problem]:
    yield from check_channels(config)
    patch = argument(config.model.get('backbone'), 'patch_size')
    if isinstance(patch, int):
        yield from (_check_crops(config, patch) if task == 'train' else _check_test_size(config, patch))
    if task == 'train':
        yield from check_effect(config)
        yield from _check_files(config, resume)


def _sides(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def _check_multiple(value: Any, key: str, patch: int) -> Iterator[Problem]:
    if value is not None and any(side % patch for side in _sides(value)):
        yield key, f'{value} is not a multiple of model.backbone.patch_size={patch}'


def _training_datasets(config: Config) -> Iterator[tuple[str, dict]]:
    return named_datasets(lookup(config, 'train_dataloader.dataset'), 'train_dataloader.dataset')


def _check_crops(config: Config, patch: int) -> Iterator[Problem]:
    preprocessor = config.model.get('data_preprocessor') or {}
    size, divisor = preprocessor.get('size'), preprocessor.get('size_divisor')
    yield from _check_multiple(size, 'model.data_preprocessor.size', patch)
    yield from _check_multiple(divisor, 'model.data_preprocessor.size_divisor', patch)
    for place, dataset in _training_datasets(config):
        for key, part in walk(dataset.get('pipeline'), f'{place}.pipeline'):
            crop = part.get('crop_size') if part.get('type') == 'RandomCrop' else None
            if crop is None:
                continue
            if size is not None and any(a > b for a, b in zip(_sides(crop), _sides(size), strict=True)):
                yield f'{key}.crop_size', f'{crop} is larger than model.data_preprocessor.size={tuple(size)}'
            if size is None and divisor is None:
                yield from _check_multiple(crop, f'{key}.crop_size', patch)


def _check_test_size(config: Config, patch: int) -> Iterator[Problem]:
    for key in ('model.data_preprocessor.test_cfg.size_divisor', 'model.data_preprocessor.test_cfg.size'):
        yield from _check_multiple(lookup(config, key), key, patch)
    if lookup(config, 'model.test_cfg.mode') == 'slide':
        yield from _check_multiple(
            lookup(config, 'model.test_cfg.crop_size'), 'model.test_cfg.crop_size', patch
        )


def missing_weights(config: Config, resume: str | None = None) -> Iterator[Problem]:
    """Yield the files of weights that cannot be read, except URLs, with a remedy.

    Args:
        config: Config of a training.
        resume: Checkpoint to resume from, or ``'auto'``.
    """
    load_from = None if resume == 'auto' else resume or config.get('load_from')
    key = '--resume' if resume or config.get('resume') else 'load_from'
    if reason := _unusable(load_from):
        yield key, reason if key == '--resume' else f'{reason}; {HOW_TO_GET_WEIGHTS}'
    for key, part in walk(config.model, 'model'):
        path = part.get('checkpoint') if key.endswith('.init_cfg') else None
        starts_elsewhere = resume or load_from or config.get('resume')
        replaced = starts_elsewhere and key in ('model.init_cfg', 'model.backbone.init_cfg')
        if (reason := _unusable(path)) and not replaced:
            yield (
                f'{key}.checkpoint',
                f'{reason}; {HOW_TO_GET_WEIGHTS}, or set {key}=None for random weights',
            )


def _check_files(config: Config, resume: str | None) -> Iterator[Problem]:
    missing = list(missing_weights(config, resume))
    yield from missing
    # Report missing images at the same time; otherwise the data set reports them later.
    if any(key.endswith('init_cfg.checkpoint') for key, _ in missing):
        yield from _check_folder(config)


def _check_folder(config: Config) -> Iterator[Problem]:
    """Check that the training images exist, for data sets that explain how to get them."""
    for key, dataset in _training_datasets(config):
        built = DATASETS.build({**copy.deepcopy(dataset), 'pipeline': [], 'lazy_init': True})
        prefix = getattr(built, 'data_prefix', {}).get('img_path')
        if not prefix or getattr(built, 'backend_args', None) or not hasattr(built, 'explain_missing'):
            continue
        if not Path(prefix).is_dir():
            yield key, built.explain_missing(prefix)
            return


def _unusable(path: Any) -> str | None:
    """Return why a file or folder of weights cannot be read; ``None`` for URLs and anything but a path."""
    if not isinstance(path, (str, Path)) or not path or '://' in str(path):
        return None
    if not Path(path).exists():
        return f'{path} does not exist'
    try:
        if Path(path).is_dir():
            local_file(path)
    except ValueError as error:
        return str(error)
    return None
