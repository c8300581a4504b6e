"""Find the file that each value of a merged config comes from."""

from typing import Any

from dpt.config.inherited import Key, file_origins, leaves, read_files
from dpt.config.load import TRANSLATION, find_config, load_config, read_config

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
    origins = file_origins(read_files(path)[1])
    plain = dict(leaves(read_config(path).to_dict()))
    changed = TRANSLATED if translated else COMMAND_LINE
    lines = []
    for key, value in leaves(config.to_dict()):
        if key in plain and plain[key] == value:
            origin = _origin(key, origins)
        else:
            origin = TOOLS if key == ('work_dir',) or key[0] == TRANSLATION else changed
        lines.append(('.'.join(key), value, origin))
    return lines


def _origin(key: Key, origins: dict[Key, str]) -> str:
    for length in range(len(key), 0, -1):
        if key[:length] in origins:
            return origins[key[:length]]
    return TOOLS
