"""Values of config files that inherit from others: which file sets them, and which have no effect."""

import ast
import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmengine.config import Config, utils

from dpt.config.mmseg.old import OLD_NAMES
from dpt.config.parts import CONSUMED

Key = tuple[str, ...]
Files = list[tuple[str, dict]]
"""Each file with the values that it sets itself, base files first."""


def read_files(path: str) -> tuple[Config, Files]:
    """Read a config and record mmengine's merges.

    Args:
        path: The config file.

    Returns:
        The merged config, and the values of each file.
    """
    files: Files = []
    reading: list[str] = []
    merging: list[bool] = []
    read, merge = Config._file2dict, Config._merge_a_into_b

    def file2dict(filename: str, *args: Any, **kwargs: Any) -> Any:
        reading.append(str(Path(filename).resolve()))
        try:
            return read(filename, *args, **kwargs)
        finally:
            reading.pop()

    def merge_a_into_b(a: dict, b: dict, allow_list_keys: bool = False) -> dict:
        if reading and not merging:  # skip recursive calls
            files.append((reading[-1], copy.deepcopy(a)))
        merging.append(True)
        try:
            return merge(a, b, allow_list_keys)
        finally:
            merging.pop()

    with (
        patch.object(Config, '_file2dict', staticmethod(file2dict)),
        patch.object(Config, '_merge_a_into_b', staticmethod(merge_a_into_b)),
        patch('mmengine.config.config._is_builtin_module', _is_builtin_module),
        patch('mmengine.config.utils._is_builtin_module', _is_builtin_module),
    ):
        return Config.fromfile(path, import_custom_modules=False), files


_of_mmengine = utils._is_builtin_module


def _is_builtin_module(name: str) -> bool:
    """Whether a module belongs to Python.

    mmengine looks for the file of a module. From Python 3.11, ``os`` and others have none, so that a config
    that imports them would be read as one of mmengine's lazy configs.
    """
    return name.split('.')[0] in sys.stdlib_module_names or _of_mmengine(name)


def leaves(values: dict, prefix: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield the keys and values of nested dicts; lists and empty dicts are values."""
    for name, value in values.items():
        key = (*prefix, str(name))
        if isinstance(value, dict) and value:
            yield from leaves(value, key)
        else:
            yield key, value


def file_origins(files: Files) -> dict[Key, str]:
    """Return the file that sets each value."""
    origins: dict[Key, str] = {}
    for file, own in files:
        _mark(own, (), file, origins)
    return origins


def _mark(own: dict, prefix: Key, file: str, origins: dict[Key, str]) -> None:
    """Record ``file`` as the origin of the values that it sets, and remove those that it replaces."""
    for name, value in own.items():
        key = (*prefix, str(name))
        nested = isinstance(value, dict)
        if not nested or value.get('_delete_'):
            for old in [old for old in origins if old[: len(key)] == key]:
                del origins[old]
        if nested and value:
            _mark({k: v for k, v in value.items() if k != '_delete_'}, key, file, origins)
        else:
            origins[key] = file


def unused_overrides(path: str, files: Files) -> dict[str, tuple[Any, Any]]:
    """Return variables that a config sets again without using them, which has no effect.

    The base files have computed their values already. The text of ``path`` alone is examined, not that of its
    bases, whose variables may serve files that inherit from them.

    Args:
        path: The config file.
        files: Its values and those of its bases.

    Returns:
        The value in the base and the new value, by name.
    """
    if Path(path).suffix != '.py' or len(files) < 2:
        return {}
    code = ast.parse(Path(path).read_text(encoding='utf-8-sig'))
    used = {one.id for one in ast.walk(code) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
    targets = (target for line in code.body if isinstance(line, ast.Assign) for target in line.targets)
    names = [one.id for one in targets if isinstance(one, ast.Name)]
    *bases, (_, own) = files
    before = {name: value for _, values in bases for name, value in values.items()}
    return {
        name: (before[name], own[name])
        for name in names
        if (name == 'data_root' or name not in {*CONSUMED, *OLD_NAMES})
        and name not in used
        and name in before
        and before[name] != own.get(name, before[name])
    }
