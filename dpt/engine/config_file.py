"""A config file, or one line on why it is none."""

import traceback

from mmengine.config import Config


def read_config(path: str) -> Config:
    """Read a config file without importing what its ``custom_imports`` names.

    Args:
        path: Python, YAML or JSON file.

    Raises:
        OSError: If the file, or a base of it, cannot be read.
        ValueError: If it is no valid Python, or its code fails; tells the line.
    """
    try:
        return Config.fromfile(path, import_custom_modules=False)
    except SyntaxError as error:
        line = (error.text or '').strip()
        raise ValueError(f'{path} or a base of it, line {error.lineno}: {error.msg}: {line}') from error
    except Exception as error:  # its code may raise anything
        if isinstance(error, FileNotFoundError) or getattr(error, 'errno', None):
            raise
        kind = '' if isinstance(error, (ValueError, OSError)) else f'{type(error).__name__}: '
        raise ValueError(f'config file {path}{_place(error)}: {kind}{error}') from error


def _place(error: Exception) -> str:
    """Where in a config an error arose: its code runs under another name than that of this package's."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    in_config = last.name == '<module>' and last.filename.endswith('.py')
    return f', or a base of it, line {last.lineno}: {last.line}' if in_config and last.line else ''
