"""Check the parts of an MMSegmentation config that dpt uses under the same names and arguments."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from dpt.config.mmseg.keys import plain
from dpt.config.parts import OTHER_DATA
from dpt.config.walk import DATALOADERS, innermost_datasets
from dpt.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOG_PROCESSORS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
)

_WITHOUT_EFFECT: dict[Registry, tuple[str, ...]] = {
    DATASETS: ('filter_cfg',),  # MMSegmentation keeps every sample anyway
    METRICS: ('keep_results',),
    VISUALIZERS: ('dataset_name',),  # the data set provides the classes and colours
}
"""Arguments that have no effect in MMSegmentation and do not exist in dpt."""

Part = tuple[str, Any, Registry]
"""Dotted key, config and registry of a part."""


def check_shared(config: Config, lines: list[str]) -> None:
    """Check that every part and its arguments exist in dpt.

    Args:
        config: The config; arguments without effect are removed in place.
        lines: List to which a line is appended for each removed argument.

    Raises:
        ValueError: If a part or an argument is unknown; the message begins with its key.
    """
    for path, part, registry in _parts(config):
        if part is not None:
            _check_part(path, part, registry, lines)


def reduces_zero_label(dataset: Mapping) -> bool:
    """Whether label 0 of a data set means 'no label', by its config or the default of its class."""
    given = dataset.get('reduce_zero_label')
    if given is not None:
        return bool(given)
    cls = _class_of(dataset.get('type'), DATASETS)
    default = inspect.signature(cls).parameters.get('reduce_zero_label') if cls else None
    return bool(default and default.default is True)


def _parts(config: Config) -> Iterator[Part]:
    for loader in DATALOADERS:
        yield from _loader_parts(loader, config.get(loader) or {})
    yield from _transforms('tta_pipeline', config.get('tta_pipeline') or [])
    yield 'tta_model', config.get('tta_model'), MODELS
    for key in ('val_evaluator', 'test_evaluator'):
        yield from _several(key, config.get(key), METRICS)
    for name, hook in (config.get('default_hooks') or {}).items():
        yield f'default_hooks.{name}', hook, HOOKS
    yield from _several('custom_hooks', config.get('custom_hooks'), HOOKS)
    visualizer = config.get('visualizer')
    yield 'visualizer', visualizer, VISUALIZERS
    yield from _several('visualizer.vis_backends', (visualizer or {}).get('vis_backends'), VISBACKENDS)
    yield 'log_processor', config.get('log_processor'), LOG_PROCESSORS
    yield from _several('param_scheduler', config.get('param_scheduler'), PARAM_SCHEDULERS)
    for key in ('train_cfg', 'val_cfg', 'test_cfg'):
        yield key, config.get(key), LOOPS
    wrapper = config.get('optim_wrapper') or {}
    yield 'optim_wrapper', wrapper, OPTIM_WRAPPERS
    yield 'optim_wrapper.optimizer', wrapper.get('optimizer'), OPTIMIZERS
    if wrapper.get('constructor'):
        yield 'optim_wrapper.constructor', dict(type=wrapper['constructor']), OPTIM_WRAPPER_CONSTRUCTORS


def _several(path: str, parts: Any, registry: Registry) -> Iterator[Part]:
    if isinstance(parts, (list, tuple)):
        yield from ((f'{path}.{i}', part, registry) for i, part in enumerate(parts))
    else:
        yield path, parts, registry


def _loader_parts(path: str, loader: Mapping) -> Iterator[Part]:
    yield f'{path}.sampler', loader.get('sampler'), DATA_SAMPLERS
    yield f'{path}.batch_sampler', loader.get('batch_sampler'), DATA_SAMPLERS
    if loader.get('dataset'):
        yield f'{path}.dataset', loader['dataset'], DATASETS  # possibly a wrapper
    for dataset in innermost_datasets(loader.get('dataset')):
        if dataset is not loader['dataset']:
            yield f'{path}.dataset', dataset, DATASETS
        yield from _transforms(f'{path}.dataset.pipeline', dataset.get('pipeline') or [])


def _transforms(path: str, pipeline: Any) -> Iterator[Part]:
    """Yield the transforms of a pipeline, including those inside wrappers such as TestTimeAug."""
    for i, transform in enumerate(pipeline):
        if isinstance(transform, (list, tuple)):
            yield from _transforms(f'{path}.{i}', transform)
        elif isinstance(transform, Mapping):
            yield f'{path}.{i}', transform, TRANSFORMS
            cls = _class_of(transform.get('type'), TRANSFORMS)
            if 'transforms' not in getattr(cls, 'foreign_arguments', ()):
                yield from _transforms(f'{path}.{i}.transforms', transform.get('transforms') or [])
            if transform.get('resize_type'):  # RandomResize and RandomChoiceResize build it by name
                yield f'{path}.{i}.resize_type', dict(type=transform['resize_type']), TRANSFORMS


def _class_of(name: Any, registry: Registry) -> type | None:
    return registry.get(name) if isinstance(name, str) else name if inspect.isclass(name) else None


def _check_part(path: str, part: Any, registry: Registry, lines: list[str]) -> None:
    if not isinstance(part, Mapping) or part.get('type') is None:
        return  # already built, or mmengine's default
    cls = _class_of(part['type'], registry)
    if cls is None:
        known = ', '.join(sorted(registry.module_dict)) or 'the parts of mmengine'
        hint = OTHER_DATA if registry is DATASETS else ''
        raise ValueError(
            f'{path}.type={part["type"]!r} cannot be translated: dpt has {known}; import others with '
            f'custom_imports (docs/extending.md){hint}'
        )
    known_arguments = _arguments(cls)
    for name in [name for name in part if name != 'type']:
        if known_arguments is None or name in known_arguments:
            continue
        if name not in _WITHOUT_EFFECT.get(registry, ()):
            raise ValueError(
                f'{path}.{name}={plain(part[name])!r} cannot be translated: the arguments of '
                f'{part["type"]} are {", ".join(sorted(known_arguments))}'
            )
        del part[name]  # type: ignore[attr-defined]
        lines.append(f'{path}.{name}: dropped, it has no effect')


def _arguments(cls: type) -> set[str] | None:
    """Return the arguments of a class of dpt; ``None`` for other classes, which MMSegmentation uses too."""
    names: set[str] = set()
    for base in cls.__mro__:
        init = base.__dict__.get('__init__')
        if init is None:
            continue
        if not base.__module__.startswith('dpt.'):
            return None
        parameters = list(inspect.signature(init).parameters.values())[1:]
        names.update(one.name for one in parameters if one.kind != one.VAR_KEYWORD)
        if not any(one.kind == one.VAR_KEYWORD for one in parameters):
            return names
    return None
