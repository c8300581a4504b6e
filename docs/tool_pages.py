"""Insert the help of each tool into the documentation."""

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path
from unittest.mock import patch

TOOLS = Path(__file__).resolve().parent.parent / 'tools'
MARK = '<!-- tools -->'


def tool_help(file: Path) -> str:
    """Return the output of ``--help``, or the import error in parentheses if a package is missing.

    Args:
        file: Path of a Python tool.
    """
    printed = io.StringIO()
    with (
        patch.object(sys, 'argv', [str(file), '--help']),
        patch.object(sys, 'path', [str(file.parent), *sys.path]),
        patch.dict(os.environ, COLUMNS='100'),
        contextlib.redirect_stdout(printed),
    ):
        try:
            # Do not run it as __main__: training sets timers that end the process.
            tool = runpy.run_path(str(file), run_name='tool')
            parse = tool.get('parse_args') or tool.get('main')
            if parse is None:
                return tool['__doc__'].strip()
            parse()
        except SystemExit:
            pass
        except ImportError as error:
            return f'({error})'
    return printed.getvalue().strip()


def fill_in(source: str) -> str:
    """Replace the mark in a page with the help of all tools."""
    if MARK not in source:
        return source
    parts = []
    for file in sorted(TOOLS.rglob('*.py')):
        name = file.relative_to(TOOLS.parent).as_posix()
        parts.append(f'## `{name}`\n\n```text\n{tool_help(file)}\n```\n')
    return source.replace(MARK, '\n'.join(parts))
