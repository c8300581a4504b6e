"""Translate configs of MMSegmentation 1.x, and of 0.x, which are first rewritten as those of 1.x.

Data, schedule, hooks and evaluation have the same meaning in dpt, so they are only checked. The model is
rewritten, because MMSegmentation's DPT head contains the neck and the loss. A value without an equivalent
raises an error that names the key; nothing is dropped silently.
"""

import copy
import re

from mmengine.config import Config, ConfigDict

from dpt.config.mmseg.model import translate_model
from dpt.config.mmseg.old import OLD_KEYS, rewrite_old_config
from dpt.config.mmseg.shared import check_shared, reduces_zero_label
from dpt.config.walk import innermost_datasets, transforms_of, walk

SCOPE = 'mmseg'
_HEAD_KEYS = ('post_process_channels', 'readout_type', 'loss_decode', 'norm_cfg', 'in_index', 'embed_dims')


def is_mmseg_config(config: Config) -> bool:
    """Whether the scope is MMSegmentation's or, if no scope is set, the model uses MMSegmentation's keys."""
    scope = config.get('default_scope')
    if scope in (None, 'mmengine'):
        model = config.get('model') or {}
        head = model.get('decode_head') or {}
        return any(key in head for key in _HEAD_KEYS) or 'auxiliary_head' in model
    return scope == SCOPE


def translate_mmseg_config(config: Config) -> tuple[Config, list[str]]:
    """Translate a merged config of MMSegmentation 0.x or 1.x whose model is a DPT on a plain ViT.

    Args:
        config: The config, with ``--cfg-options`` already merged; it is not modified.

    Returns:
        The translated config, and a list with one line for each change.

    Raises:
        ValueError: If a value has no equivalent; the message begins with its key.
    """
    if 'runner_type' in config:
        raise ValueError(f"runner_type={config.runner_type!r}: only mmengine's default runner is supported")
    try:
        config = copy.deepcopy(config)
        if any(key in config for key in OLD_KEYS):
            return _translate_old(config)
        return _translate(config)
    except (AttributeError, TypeError, KeyError, IndexError) as error:
        raise ValueError(
            f'the config of MMSegmentation cannot be translated ({type(error).__name__}: {error}): a key is '
            "missing, or a value has another type than in MMSegmentation's own configs"
        ) from error


def _translate_old(config: Config) -> tuple[Config, list[str]]:
    """Translate a config of 0.x; errors name a data set as 0.x does, without the number of a transform."""
    lines = rewrite_old_config(config)
    try:
        config, more = _translate(config)
    except ValueError as error:
        key = r'^(train|val|test)_dataloader\.dataset(\.pipeline)?(?:\.\d+)?'
        raise ValueError(re.sub(key, r'data.\1\2', str(error))) from error
    return config, [*lines, *more]


def _translate(config: Config) -> tuple[Config, list[str]]:
    lines = [f"default_scope: {config.get('default_scope')!r} -> 'dpt'"]
    _strip_scope(config)
    config.default_scope = 'dpt'
    lines += _drop_imports(config)
    config.model = ConfigDict(translate_model(config.get('model'), lines))
    check_shared(config, lines)
    lines += _match_names(config)
    lines += _complete(config)
    return config, lines


def is_mmseg_module(name: str) -> bool:
    """Whether a module of ``custom_imports`` belongs to MMSegmentation itself."""
    return name.split('.')[0] == SCOPE


def _drop_imports(config: Config) -> list[str]:
    imports = (config.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    own = [name for name in imports if is_mmseg_module(name)]
    if not own:
        return []
    config.custom_imports['imports'] = [name for name in imports if name not in own]
    return [f'custom_imports: dropped {", ".join(own)}']


def _strip_scope(config: Config) -> None:
    """Replace ``type='mmseg.X'`` by ``type='X'`` at any depth, in place."""
    for _, node in walk(config._cfg_dict):
        if isinstance(node.get('type'), str):
            node['type'] = node['type'].removeprefix(f'{SCOPE}.')
        if node.get('_scope_') == SCOPE:
            del node['_scope_']


def _match_names(config: Config) -> list[str]:
    """Make the keys of ``paramwise_cfg`` match MMSegmentation's parameter names."""
    wrapper = config.get('optim_wrapper') or {}
    constructor = wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    if constructor != 'DefaultOptimWrapperConstructor' or not (wrapper.get('paramwise_cfg') or {}):
        return []
    wrapper['constructor'] = 'MMSegOptimWrapperConstructor'
    return [
        "optim_wrapper.constructor='MMSegOptimWrapperConstructor': keys of paramwise_cfg match "
        "MMSegmentation's parameter names, where the neck is part of decode_head"
    ]


def _complete(config: Config) -> list[str]:
    """Add settings that the tools expect; return lines about these and about differences in meaning."""
    lines = []
    for mode in ('val', 'test'):
        loader, evaluators = config.get(f'{mode}_dataloader'), config.get(f'{mode}_evaluator')
        reduced = loader and any(map(reduces_zero_label, innermost_datasets(loader.get('dataset'))))
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            if reduced and evaluator and evaluator.get('type') == 'IoUMetric':
                evaluator.setdefault('label_offset', 1)
                lines.append(f'{mode}_evaluator.label_offset=1: label maps written by --out start at 1')
    if any('scale_factor' in step for step in transforms_of(config.get('tta_pipeline') or [])):
        lines.append(
            'tta_pipeline: unchanged; its ratios apply to the original image size, those of the published '
            'figure to the test scale'
        )
    batch = (config.get('train_dataloader') or {}).get('batch_size')
    if batch is not None:
        lines.append(f'train_dataloader.batch_size={batch}: unchanged; it applies to each process')
    wrapper = config.get('optim_wrapper') or {}
    if wrapper.get('type') == 'AmpOptimWrapper' and not wrapper.get('dtype'):
        lines.append('optim_wrapper.dtype: bfloat16 if the device supports it, else float16')
    return lines
