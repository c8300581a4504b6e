"""Print a merged config, one line per value, with the file that set the value.

Values changed by --cfg-options or translated from an MMSegmentation config are marked as such.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpt.cli import add_config_options, one_line_errors
from dpt.config.origins import config_origins

EXAMPLE = """example:
  python tools/print_config.py configs/quickstart.py
  python tools/print_config.py configs/quickstart.py --cfg-options total_batch_size=4 | grep command
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    add_config_options(parser)
    return parser.parse_args()


def lines_of(key: str, value: Any, origin: str) -> Iterator[str]:
    """Yield ``key = value  # origin``; a list of dicts has one line per item."""
    where = os.path.relpath(origin) if Path(origin).is_absolute() else origin
    if isinstance(value, (list, tuple)) and any(isinstance(item, (dict, list, tuple)) for item in value):
        yield f'{key} = [  # {where}'
        yield from (f'    {item!r},' for item in value)
        yield ']'
    else:
        yield f'{key} = {value!r}  # {where}'


def main() -> int:
    with one_line_errors():
        args = parse_args()
        for key, value, origin in config_origins(args.config, args.cfg_options):
            for line in lines_of(key, value, origin):
                print(line)
    return 0


if __name__ == '__main__':
    sys.exit(main())
