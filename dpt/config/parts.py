"""Check the parts of a config: names in registries, arguments of constructors, types of values."""

import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import FUNCTIONS, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from dpt import registry as registries

Problem = tuple[str, str]
"""Dotted key and description of the mistake."""

_LISTS = (list, tuple)
_PLAIN_MODULES = ('builtins', 'collections.abc', 'torch')

CONSUMED = set(inspect.signature(Runner.__init__).parameters) | {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'data_root',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'fsdp',
    'model_wrapper_cfg',
    'sync_bn',
    'total_batch_size',
    'tta_model',
    'tta_pipeline',
    'tta_ratios_of',
}
"""Top-level keys that are read after parsing; other keys are helper variables of the config file."""

ROOTS: dict[str, Registry] = dict(
    model=registries.MODELS,
    tta_model=registries.MODELS,
    tta_pipeline=registries.TRANSFORMS,
    param_scheduler=registries.PARAM_SCHEDULERS,
    train_cfg=registries.LOOPS,
    val_cfg=registries.LOOPS,
    test_cfg=registries.LOOPS,
    default_hooks=registries.HOOKS,
    custom_hooks=registries.HOOKS,
    val_evaluator=registries.METRICS,
    test_evaluator=registries.METRICS,
    visualizer=registries.VISUALIZERS,
    log_processor=registries.LOG_PROCESSORS,
    optim_wrapper=registries.OPTIM_WRAPPERS,
)
"""Registry for each top-level key."""

INNER: dict[str, Registry] = dict(
    init_cfg=registries.WEIGHT_INITIALIZERS,
    dataset=registries.DATASETS,
    datasets=registries.DATASETS,
    pipeline=registries.TRANSFORMS,
    sampler=registries.DATA_SAMPLERS,
    batch_sampler=registries.DATA_SAMPLERS,
    collate_fn=FUNCTIONS,
    worker_init_fn=FUNCTIONS,
    vis_backends=registries.VISBACKENDS,
    optimizer=registries.OPTIMIZERS,
)
"""Registry for keys at any depth whose values use another registry than their parent."""

SUPPLIED: dict[str, set[str]] = {
    'loop': {'runner', 'dataloader', 'evaluator'},
    'parameter scheduler': {'optimizer', 'param_name'},
    'data sampler': {'dataset', 'seed', 'sampler', 'batch_size'},
    'optimizer': {'params'},
    'optim_wrapper': {'optimizer'},
    'vis_backend': {'save_dir'},
    'model': {'module'},
    'function': {'data_batch', 'worker_id', 'num_workers', 'rank', 'seed', 'disable_subprocess_warning'},
}
"""Arguments that the builder of a part adds, by registry name."""

READ_BY_BUILDER: dict[str, set[str]] = {
    'parameter scheduler': {'convert_to_iter_based', 'epoch_length'},
    'optim_wrapper': {'constructor', 'paramwise_cfg', 'optimizer'},
}
"""Keys that the builder reads and does not pass to the constructor, by registry name."""

PLAIN_KEYS: dict[str, set[str]] = {
    'env_cfg': {'cudnn_benchmark', 'float32_matmul_precision', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
}
"""Known keys of dicts that are read directly rather than built from a registry."""

PARAMWISE_KEYS = {
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'dwconv_decay_mult',
    'flat_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
    'custom_keys',
}
"""Keys of ``paramwise_cfg`` that mmengine's default optimiser wrapper constructor reads."""

OWN_PACKAGES = ('dpt', 'mmcv', 'mmengine', 'torch')
"""Packages whose annotations and nested parts are checked; the conventions of other packages are unknown."""

BUILT_EVERYWHERE = ('dataset', 'datasets', 'pipeline')
"""Keys whose values are built from a registry, whatever the package."""

LOADER_KEYS = set(inspect.signature(DataLoader.__init__).parameters) - {'self'} | {'num_batch_per_epoch'}


OTHER_DATA = "; for other data use type='BaseSegDataset' with metainfo=dict(classes=..., palette=...)"

NOT_INCLUDED = (
    'BaseCDDataset',
    'CascadeEncoderDecoder',
    'FPNHead',
    'LoadSingleRSImageFromFile',
    'MixVisionTransformer',
    'MultimodalEncoderDecoder',
    'RandomRotFlip',
    'SwinTransformer',
)
"""Parts of MMSegmentation that dpt lacks, and whose names resemble those of other parts."""


def near(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``; did you mean X?`` if a known name resembles ``name``, else an empty string; ignores case."""
    by_lower = {one.lower(): one for one in sorted(known)}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return f'; did you mean {by_lower[found[0]]}?' if found else ''


def explain_unknown(name: str, registry: Registry) -> str:
    """Return an error message for a name that a registry does not contain."""
    hint = '' if name in NOT_INCLUDED else near(name, known_names(registry), 0.8)
    if registry is registries.DATASETS:
        hint += OTHER_DATA
    kind = registry.name.replace('_', ' ')
    return f'unknown {kind} {name!r}: import the module that defines it with custom_imports{hint}'


def arguments(target: Callable) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return the arguments by name, and whether the target accepts any others.

    For a class, include the arguments of its parents' constructors while each constructor has ``**kwargs``.
    """
    makers = [target]
    if isinstance(target, type):
        makers = [cls.__dict__['__init__'] for cls in target.__mro__[:-1] if '__init__' in cls.__dict__]
    found: dict[str, inspect.Parameter] = {}
    for maker in makers:
        parameters = list(inspect.signature(maker).parameters.values())
        for parameter in parameters[isinstance(target, type) :]:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return found, False
    return found, bool(makers)


def is_own(target: object) -> bool:
    """Whether a part belongs to this package or its dependencies rather than to a user's code."""
    return getattr(target, '__module__', '').partition('.')[0] in OWN_PACKAGES


def accepted_types(annotation: Any) -> tuple | None:
    """Return the classes that an annotation allows, or ``None`` if they cannot be determined."""
    if annotation is None:
        return (type(None),)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        members = [accepted_types(one) for one in typing.get_args(annotation)]
        known = [one for one in members if one is not None]
        return tuple(cls for one in known for cls in one) if len(known) == len(members) else None
    cls = origin or annotation
    return (cls,) if isinstance(cls, type) and cls.__module__ in _PLAIN_MODULES else None


def wrong_type(value: Any, annotation: Any) -> bool:
    """Whether a config's value definitely contradicts an annotation.

    Integral floats pass as integers, lists as tuples, and ``None`` as anything, because the annotations of
    other packages are no more exact than that.
    """
    accepted = accepted_types(annotation)
    if value is None or not accepted or object in accepted or isinstance(value, accepted):
        return False
    for_lists = any(issubclass(cls, Iterable) and cls not in (str, dict, Mapping) for cls in accepted)
    if isinstance(value, (int, float)):
        whole = float(value).is_integer()
        return not for_lists and not any(cls is float or (whole and issubclass(cls, int)) for cls in accepted)
    return not for_lists if isinstance(value, _LISTS) else isinstance(value, (str, Mapping))


def _spell(annotation: Any) -> str:
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__name__
    return re.sub(r'\b(?:typing|collections\.abc|torch)\.', '', str(annotation))


def _arguments_of(part: Mapping, target: Callable) -> tuple[dict[str, inspect.Parameter], bool]:
    known, takes_any = arguments(target)
    if takes_any and 'resize_type' in known:  # passes other arguments to that transform
        resize = registries.TRANSFORMS.get(part.get('resize_type', 'Resize'))
        others, takes_any = arguments(resize) if resize else ({}, True)
        known = {**{name: one.replace(default=None) for name, one in others.items()}, **known}
    return known, takes_any


def _check_arguments(part: Mapping, key: str, target: Callable, registry: Registry) -> Iterator[Problem]:
    name = getattr(target, '__name__', str(target))
    try:
        known, takes_any = _arguments_of(part, target)
    except (TypeError, ValueError):  # a C function has no signature
        return
    supplied = SUPPLIED.get(registry.name, set())
    handled = {'type', '_scope_'} | READ_BY_BUILDER.get(registry.name, set())
    for argument, value in part.items():
        if argument in handled:
            continue
        if argument not in known:
            hint = near(argument, set(known) - supplied, cutoff=0.85 if takes_any else 0.6)
            if hint or not takes_any:
                yield f'{key}.{argument}', f'{name} has no argument {argument!r}{hint}'
        elif is_own(target) and wrong_type(value, known[argument].annotation):
            expected = _spell(known[argument].annotation)
            yield f'{key}.{argument}', f'{value!r} is {type(value).__name__}, but {name} takes {expected}'
        elif value is None and _needs_value(target, known[argument]):
            yield f'{key}.{argument}', f'None, but {name} takes {_spell(known[argument].annotation)}'
    for argument, parameter in known.items():
        if parameter.default is parameter.empty and argument not in part and argument not in supplied:
            yield key, f'{name} needs the argument {argument!r}'


def _needs_value(target: Callable, parameter: inspect.Parameter) -> bool:
    """Whether an argument in dpt, where annotations are exact, takes only numbers or lists of them."""
    maker = getattr(target, '__init__', target)
    accepted = set(accepted_types(parameter.annotation) or ())
    own = getattr(maker, '__module__', '').startswith('dpt.')
    takes_values = bool(accepted) and accepted <= {int, float, Sequence, *_LISTS}
    return own and takes_values and parameter.name in inspect.signature(maker).parameters


def _find(name: Any, registry: Registry) -> Callable | None:
    return registry.get(name) if isinstance(name, str) else name


def known_names(registry: Registry) -> set[str]:
    """Return the names in a registry and its parents."""
    names: set[str] = set()
    level: Registry | None = registry
    while level is not None:
        level.import_from_location()
        names |= set(level.module_dict)
        level = level.parent
    return names


def check_parts(value: Any, key: str, registry: Registry) -> Iterator[Problem]:
    """Check the types and arguments of everything built from a config value, including nested parts."""
    if isinstance(value, _LISTS):
        for number, one in enumerate(value):
            yield from check_parts(one, f'{key}.{number}', registry)
    if not isinstance(value, Mapping):
        return
    inner: Collection[str] = value.keys()
    if 'type' in value:
        try:
            target = _find(value['type'], registry)
        except (ImportError, AttributeError, TypeError):
            target = None
        if target is None:
            yield f'{key}.type', explain_unknown(str(value['type']), registry)
        else:
            yield from _check_arguments(value, key, target, registry)
            foreign = getattr(target, 'foreign_arguments', ())
            inner = [
                name for name in inner if name not in foreign and (is_own(target) or name in BUILT_EVERYWHERE)
            ]
    for name in inner:
        sampler_of_loss = name == 'sampler' and registry is registries.MODELS
        nested = registry if sampler_of_loss else INNER.get(name, registry)
        yield from check_parts(value[name], f'{key}.{name}', nested)


def check_keys(value: Any, key: str, known: Collection[str]) -> Iterator[Problem]:
    """Check the keys of a dict that is not built from a registry."""
    if isinstance(value, Mapping):
        for name in value:
            if name not in known:
                yield f'{key}.{name}', f'unknown key{near(name, known)}'


def lookup(config: Config, key: str) -> Any:
    """Return the value of a dotted key, or ``None`` if the key is missing."""
    value: Any = config
    for name in key.split('.'):
        value = value.get(name) if isinstance(value, (Config, Mapping)) else None
    return value
