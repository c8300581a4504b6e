"""Values of config files that inherit from others: which file sets them, and variables set more than once."""

import ast
import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mmengine.config.config as mmengine_config
from mmengine.config import Config
from mmengine.logging import print_log

from dpt.config.mmseg import is_mmseg_config
from dpt.config.parts import CONSUMED

Key = tuple[str, ...]
Files = list[tuple[str, dict]]
"""Each file with the values that it sets itself, base files first."""


def read_files(path: str, variables: Mapping[str, Any] | None = None) -> tuple[Config, Files]:
    """Read a config and record mmengine's merges.

    Args:
        path: The config file.
        variables: Plain values that replace those which the files assign to top-level variables.

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

    class Assignments(mmengine_config.RemoveAssignFromAST):
        def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:  # noqa: N802 (name of ast)
            name = node.targets[0].id if isinstance(node.targets[0], ast.Name) else ''
            if variables and name in variables:
                value = ast.parse(repr(variables[name]), mode='eval').body
                node.value = ast.copy_location(value, node.value)
                ast.fix_missing_locations(node)
            return super().visit_Assign(node)

    with (
        patch.object(Config, '_file2dict', staticmethod(file2dict)),
        patch.object(Config, '_merge_a_into_b', staticmethod(merge_a_into_b)),
        patch.object(mmengine_config, 'RemoveAssignFromAST', Assignments),
    ):
        return Config.fromfile(path, import_custom_modules=False), files


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


def read_with_redefined(path: str) -> Config:
    """Read a config whose files may set a variable that a base of them has set and used.

    A ``data_root`` that is set again also reaches the data sets of the bases, as ``--cfg-options data_root``
    does. For another variable the bases keep the values that they have computed from theirs. If that makes a
    difference, log a warning or, if the new value has no effect at all, raise an error.

    Raises:
        ValueError: If setting a variable again has no effect; a warning for configs of MMSegmentation.
    """
    config, files = read_files(path)
    set_by: dict[str, list[tuple[str, Any]]] = {}
    for file, own in files:
        for name, value in own.items():
            if name == 'data_root' or name not in CONSUMED:
                set_by.setdefault(name, []).append((file, value))
    final = config.to_dict()
    again = {
        name: final.get(name)
        for name, setters in set_by.items()
        if any(value != setters[0][1] for _, value in setters) and _is_plain(final.get(name))
    }
    if 'data_root' in again:
        config, _ = read_files(path, {'data_root': again.pop('data_root')})
    for name, value in again.items() if _differing(path, config, again) else ():
        keys = _differing(path, config, {name: value})
        if not keys:
            continue
        *_, (_, before), (file, _) = set_by[name]
        more = f' and {len(keys) - 3} more' if len(keys) > 3 else ''
        kept = f'{", ".join(keys[:3])}{more}'
        if not _is_plain(before) or _differing(path, config, {name: before}):
            print_log(
                f'{file}: {name} is set again, but {kept} keeps the value that a base computed from its own '
                f'{name}; set it, too, if it should change',
                'current',
                logging.WARNING,
            )
            continue
        message = (
            f'{file}: setting {name} again has no effect, because a base has computed {kept} from its own '
            f'{name}; set {"this key" if len(keys) == 1 else "these keys"} instead'
        )
        if not is_mmseg_config(config):  # MMSegmentation trains with such configs
            raise ValueError(message)
        print_log(message, 'current', logging.WARNING)
    return config


def _is_plain(value: Any) -> bool:
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(repr(value)) == value
    return False


def _differing(path: str, config: Config, variables: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values would be others if all files assigned ``variables``."""
    try:
        other, _ = read_files(path, variables)
    except Exception:  # noqa: BLE001 (the code of a config may raise anything for another value)
        return []
    one, two = (
        dict(leaves({key: value for key, value in read.to_dict().items() if key in CONSUMED}))
        for read in (config, other)
    )
    missing = object()
    return ['.'.join(key) for key in one | two if one.get(key, missing) != two.get(key, missing)]
