"""Unpack NYUv2 for depth estimation and report what is missing.

Nothing is downloaded: without arguments the tool lists the archives and where they are published. Put
nyu_train.txt and nyu_test.txt into the folder; the pairs of image and depth that they list
are unpacked from the archives, and the folder is compared with the published numbers of pairs
(24,231 and 654). A folder that was unpacked already is only compared.

Exit status: 0 if the data set is complete, 1 if it is not or on an error, 2 for invalid arguments.

Example:
    python tools/prepare_nyu.py --root data/nyu --archive nyu.zip
"""

import argparse
from pathlib import Path

from dpt.cli import one_line_errors
from dpt.extras.depth_archives import NYU, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--root', type=Path, default=Path('data/nyu'), help='folder of the data set (default: data/nyu)'
    )
    parser.add_argument(
        '--archive', type=Path, nargs='+', default=[], help='zip files, or folders that contain them'
    )
    return parser.parse_args()


def main() -> None:
    with one_line_errors():
        args = parse_args()
        raise SystemExit(run(NYU, args.root, args.archive))


if __name__ == '__main__':
    main()
