"""What each tool says of itself."""

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
    """Return what ``--help`` prints, or what a missing package says, in parentheses.

    Args:
        file: A Python tool.
    """
    printed = io.StringIO()
    with (
        patch.object(sys, 'argv', [str(file), '--help']),
        patch.object(sys, 'path', [str(file.parent), *sys.path]),
        patch.dict(os.environ, COLUMNS='100'),
        contextlib.redirect_stdout(printed),
    ):
        try:
            # Not as the main program: training arms timers that end the process.
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
    """Return a page with the help of all tools in place of the mark."""
    if MARK not in source:
        return source
    parts = []
    for file in sorted(TOOLS.rglob('*.py')):
        name = file.relative_to(TOOLS.parent).as_posix()
        parts.append(f'## `{name}`\n\n```text\n{tool_help(file)}\n```\n')
    return source.replace(MARK, '\n'.join(parts))
