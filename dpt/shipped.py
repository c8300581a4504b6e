"""Where the configs and tools that come with this package are: in a checkout, or in an installed wheel."""

from pathlib import Path

PACKAGED = '.mim'
"""Folder of an installed package that holds them, as in the other packages on mmengine."""


def shipped(kind: str) -> Path:
    """Return the folder of what comes with this package.

    Args:
        kind: ``'configs'`` or ``'tools'``.

    Raises:
        FileNotFoundError: If it is not there.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / PACKAGED / kind, package.parent / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f'{kind} did not come with {package}: install dpt again, from its wheel')


def find_config(path: str) -> str:
    """Return the path of a config: the file itself, or the one of that name that comes with this package.

    Raises:
        FileNotFoundError: If there is neither.
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
    raise FileNotFoundError(f'config file {path} does not exist; those of dpt are in {folder}')
