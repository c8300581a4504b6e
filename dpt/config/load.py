"""Read config files, apply command-line options and import custom modules."""

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.utils import import_modules_from_strings

import dpt
from dpt.config.inherited import read_files, unused_overrides
from dpt.config.mmseg import is_mmseg_config, is_mmseg_module, translate_mmseg_config
from dpt.config.mmseg.old import OLD_NAMES
from dpt.config.names import name_config_types
from dpt.config.options import typed_options
from dpt.config.parts import CONSUMED, near
from dpt.config.walk import DATALOADERS, innermost_datasets, walk

RETIRED_KEYS = ('rank_timeout',)
RETIRED_HOOKS = ('CudnnSearchHook', 'RankWatchHook', 'UtilizationHook')
"""Keys and hooks that earlier versions wrote into dumped configs; they are removed on loading."""
MMSEG_HOOKS = ('timer', 'logger', 'param_scheduler', 'checkpoint', 'sampler_seed', 'visualization')
"""Default hooks of MMSegmentation; a translated config gets the others of dpt's own configs."""
TRANSLATION = 'translated_from_mmseg'
"""Key of a translated config that lists the changes, one line each."""
PACKAGED = '.mim'
"""Folder inside the installed package for configs and tools, as in other mmengine-based packages."""


def shipped(kind: str) -> Path:
    """Return the folder of the configs or tools shipped with this package, in a checkout or a wheel.

    Args:
        kind: ``'configs'`` or ``'tools'``.

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    package = Path(dpt.__file__).resolve().parent
    for folder in (package / PACKAGED / kind, package.parent / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f'{package} has no {kind}: reinstall dpt from its wheel')


def find_config(path: str) -> str:
    """Return ``path`` if it is a file, else the path of the shipped config with that name.

    Raises:
        FileNotFoundError: If neither exists.
    """
    if Path(path).is_file():
        return path
    try:
        folder = shipped('configs')
    except FileNotFoundError:
        folder = Path('configs')
    relative = Path(path)
    if relative.parts[:1] == ('configs',):
        relative = relative.relative_to('configs')
    if not relative.is_absolute() and '..' not in relative.parts and (folder / relative).is_file():
        return str(folder / relative)
    raise FileNotFoundError(f'config file {path} does not exist; the configs of dpt are in {folder}')


def read_config(path: str) -> Config:
    """Read a config file without importing its ``custom_imports``.

    Args:
        path: Python, YAML or JSON file.

    Raises:
        OSError: If the file or one of its bases cannot be read.
        ValueError: If the file is not valid Python or its code fails; the message names the line.
    """
    try:
        config, files = read_files(path)
        for name, (before, now) in unused_overrides(path, files).items():
            if name == 'data_root' and _replace_data_root(config, before, now):
                continue
            message = (
                f'{path}: overriding {name} has no effect: the base files have computed their values from '
                f'their own {name}, and nothing else in this file uses it; set the keys that use it'
            )
            print_log(message, 'current', logging.WARNING)
        return config
    except SyntaxError as error:
        line = (error.text or '').strip()
        raise ValueError(f'{path} or a base of it, line {error.lineno}: {error.msg}: {line}') from error
    except Exception as error:  # the code of a config may raise anything
        if isinstance(error, FileNotFoundError) or getattr(error, 'errno', None):
            raise
        kind = '' if isinstance(error, (ValueError, OSError)) else f'{type(error).__name__}: '
        # mmengine executes a copy of the config, so only the line is known.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == '<module>']
        place = ''
        if frames and frames[-1].filename.endswith('.py') and frames[-1].line:
            place = f', or a base of it, line {frames[-1].lineno}: {frames[-1].line}'
        raise ValueError(f'config file {path}{place}: {kind}{error}') from error


def load_config(path: str, options: dict | None = None, work_dir: str | None = None) -> Config:
    """Read a config file, apply ``--cfg-options`` and set the work directory.

    The option ``data_root`` also replaces the value in every data set that uses the config's ``data_root``.

    Configs of MMSegmentation 0.x and 1.x are translated after the options are applied, so options use its
    names. The key ``translated_from_mmseg`` lists the changes.

    Args:
        path: Python config file, or the name of a config shipped with this package.
        options: Dotted keys and their values; the texts of ``dpt.cli.Options`` get the type of what they
            replace.
        work_dir: Work directory; ``None`` uses the config's ``work_dir`` or ``work_dirs/<config name>``.

    Raises:
        FileNotFoundError: If the config file does not exist.
        ValueError: If the file is not valid Python or its code fails, an option has no effect, a
            module of ``custom_imports`` cannot be imported, or an MMSegmentation config cannot be translated.
    """
    path = find_config(path)
    config = read_config(path)
    options = dict(options or {})
    for option in options:
        _check_option(option, config)
    options = typed_options(options, config)
    if 'data_root' in options:
        before, now = config.get('data_root'), options['data_root']
        if not _replace_data_root(config, before, now):
            raise ValueError(
                f'--cfg-options data_root={now}: no data set of the config has data_root={before!r}, so this '
                'option has no effect; set train_dataloader.dataset.data_root and those of the other loaders'
            )
    try:
        config.merge_from_dict(options)
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f'--cfg-options {" ".join(options)}: a key does not fit the config ({error}); only dicts inside '
            'lists can be reached by their index, other lists are replaced as a whole'
        ) from error
    _drop_retired(config)
    foreign = is_mmseg_config(config)
    _import_custom_modules(config, foreign)
    name_config_types(config)
    if foreign:
        config, lines = translate_mmseg_config(config)
        config[TRANSLATION] = [*lines, *_add_hooks(config)]
    config.work_dir = str(work_dir or config.get('work_dir') or Path('work_dirs', Path(path).stem))
    return config


def _check_option(option: str, config: Config) -> None:
    """Reject an option whose key is unknown or is read only while the config file is parsed."""
    key = option.split('.')[0]
    if key in CONSUMED or (key in OLD_NAMES and key in config):
        return
    if key in config:
        users = _keys_with(config[key], config)
        which = f'the keys with its value ({", ".join(users)})' if users else 'the keys that use it'
        raise ValueError(
            f'--cfg-options {option}: {key} is read only while the config file is parsed, so this option has '
            f'no effect; set {which}, or write a config with this one as _base_'
        )
    hint = near(key, {*config.keys(), *CONSUMED})
    raise ValueError(f'--cfg-options {key}: the config does not have this key{hint}')


def _keys_with(value: Any, config: Config) -> list[str]:
    """Return the dotted keys with a value, among those that are read after the config file is parsed."""
    kept = {key: config[key] for key in config if key in CONSUMED}
    nodes = [(place.lstrip('.'), node) for place, node in walk(kept) if node is not kept]
    return [f'{place}.{name}' for place, node in nodes for name, one in node.items() if one == value]


def _replace_data_root(config: Config, before: Any, now: str) -> bool:
    """Replace ``data_root`` of the data sets that have the value ``before``; return whether there are any."""
    loaders = [config[name] for name in DATALOADERS if config.get(name)]
    own = [dataset for loader in loaders for dataset in innermost_datasets(loader.get('dataset'))]
    matching = [dataset for dataset in own if dataset.get('data_root') == before]
    for dataset in matching:
        dataset['data_root'] = now
    return bool(matching)


def _drop_retired(config: Config) -> None:
    """Remove the keys and hooks that earlier versions added to dumped configs."""
    for key in RETIRED_KEYS:
        config.pop(key, None)
    hooks = config.get('custom_hooks')
    if hooks:
        config.custom_hooks = [hook for hook in hooks if hook.get('type') not in RETIRED_HOOKS]


def _add_hooks(config: Config) -> list[str]:
    """Add the hooks of dpt's own configs to a translated one; return a line about them."""
    own = read_config(str(shipped('configs') / '_base_' / 'default_runtime.py')).default_hooks
    given = config.setdefault('default_hooks', ConfigDict())
    added = [name for name in own if name not in (*given, *MMSEG_HOOKS)]
    given.update({name: own[name] for name in added})
    return [f'default_hooks: added {", ".join(added)}'] if added else []


def _import_custom_modules(config: Config, foreign: bool) -> None:
    """Import the modules of ``custom_imports``; skip MMSegmentation's modules in its own configs."""
    wanted = config.get('custom_imports') or {}
    names = wanted.get('imports') or []
    names = [names] if isinstance(names, str) else names
    names = [name for name in names if not (foreign and is_mmseg_module(name))]
    folder = str(Path(config.filename).resolve().parent) if config.filename else ''
    if names and folder and folder not in sys.path:
        sys.path.append(folder)  # finds modules next to the config
    for name in names:
        try:
            import_modules_from_strings([name], wanted.get('allow_failed_imports', False))
        except ImportError as error:
            cause = error.__context__
            raise ValueError(
                f'custom_imports: {name} cannot be imported ({cause}); dpt searches the folder of the config '
                f'({folder}), PYTHONPATH ({os.environ.get("PYTHONPATH") or "not set"}) and the installed '
                'packages: correct the name, or add the folder that contains the module to PYTHONPATH'
            ) from error
        except KeyError as error:
            if 'already registered' not in str(error):
                raise
            raise ValueError(
                f'custom_imports: {name}: {error.args[0]}: give the class another name, or replace the one '
                'of dpt with register_module(force=True)'
            ) from error
