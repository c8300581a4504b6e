"""Find the file that each value of a merged config comes from."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmengine.config import Config

from dpt.config.load import TRANSLATION, find_config, load_config

Key = tuple[str, ...]
COMMAND_LINE = 'command line'
TRANSLATED = 'translated from MMSegmentation'
TOOLS = 'set while loading'


def config_origins(path: str, options: dict | None = None) -> list[tuple[str, Any, str]]:
    """Load a config as the tools do and return the origin of each value.

    Args:
        path: Python config file.
        options: Dotted keys and values of ``--cfg-options``.

    Returns:
        Tuples (dotted key, value, origin) in the order of the config, for every value except dicts. The
        origin is the path of a file, or ``COMMAND_LINE``, ``TRANSLATED`` or ``TOOLS``.

    Raises:
        FileNotFoundError, ValueError: As :func:`dpt.config.load_config`.
    """
    path = find_config(path)
    config = load_config(path, options)
    translated = TRANSLATION in config
    files = _own_values(path)
    origins: dict[Key, str] = {}
    for file, own in files:
        _mark(own, (), file, origins)
    plain = dict(_leaves(Config.fromfile(path, import_custom_modules=False).to_dict(), ()))
    changed = TRANSLATED if translated else COMMAND_LINE
    lines = []
    for key, value in _leaves(config.to_dict(), ()):
        if key in plain and plain[key] == value:
            origin = _origin(key, origins)
        else:
            origin = TOOLS if key == ('work_dir',) or key[0] == TRANSLATION else changed
        lines.append(('.'.join(key), value, origin))
    return lines


def _own_values(path: str) -> list[tuple[str, dict]]:
    """Return the values that each file sets itself, base files first, by recording mmengine's merges."""
    files: list[tuple[str, dict]] = []
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
    ):
        Config.fromfile(path, import_custom_modules=False)
    return files


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


def _leaves(values: dict, prefix: Key) -> Iterator[tuple[Key, Any]]:
    for name, value in values.items():
        key = (*prefix, str(name))
        if isinstance(value, dict) and value:
            yield from _leaves(value, key)
        else:
            yield key, value


def _origin(key: Key, origins: dict[Key, str]) -> str:
    for length in range(len(key), 0, -1):
        if key[:length] in origins:
            return origins[key[:length]]
    return TOOLS
