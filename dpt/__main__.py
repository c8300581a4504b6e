"""The command ``dpt``, which runs the tools of this package from any folder."""

import ast
import runpy
import sys
from pathlib import Path

from dpt.config.load import shipped

USAGE = """usage: dpt TOOL [ARGUMENTS]          run dpt TOOL --help for its arguments
       dpt where [configs|tools]    print the folder that contains them

A config is a path, or the name of a config that comes with dpt.
"""


def find_tools() -> dict[str, Path]:
    """Return the tools by name, those in subfolders as ``folder/name``."""
    folder = shipped('tools')
    return {file.relative_to(folder).with_suffix('').as_posix(): file for file in folder.rglob('*.py')}


def overview() -> str:
    """Return the usage and a line about each tool."""
    lines = [USAGE, 'tools:']
    for name, file in sorted(find_tools().items()):
        summary = (ast.get_docstring(ast.parse(file.read_text(encoding='utf-8'))) or '').split('\n\n')[0]
        lines.append(f'  {name:<32} {" ".join(summary.split())}')
    return '\n'.join(lines)


def main() -> None:
    """Run the tool named by the first argument, as ``python tools/NAME.py`` does."""
    name, arguments = ([*sys.argv[1:2], 'help'])[0], sys.argv[2:]
    if name in ('help', '-h', '--help'):
        print(overview())
        return
    if name == 'where' and (not arguments or arguments in (['configs'], ['tools'])):
        print(shipped(arguments[0]) if arguments else shipped('tools').parent)
        return
    file = find_tools().get(name)
    if file is None:
        print(f'error: dpt has no tool {name}; dpt --help lists them', file=sys.stderr)
        sys.exit(2)
    sys.argv = [str(file), *arguments]
    sys.path.insert(0, str(file.parent))  # as Python does for scripts
    runpy.run_path(str(file), run_name='__main__')


if __name__ == '__main__':
    main()
