"""Compare the depth models, losses, metrics and data of ``dpt`` with reference code.

transformers, from the environment, is the reference of its own checkpoints. Clones of the original
repositories are the others; comparisons without their clone are listed as not run. The exit status is 0 only
if all comparisons that were run hold.

Example:
    python benchmarks/depth_parity.py --reference depth-anything-v2=~/Depth-Anything-V2 --reference dpt=~/DPT
"""

import argparse
import importlib
import logging
import sys
import time
import warnings
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from depth_chain import LINKS  # noqa: E402
from depth_chain.table import REFERENCES, Row, exit_status, render  # noqa: E402

REPOSITORIES = {
    'dpt': 'isl-org/DPT',
    'depth-anything': 'LiheYoung/Depth-Anything',
    'depth-anything-v2': 'DepthAnything/Depth-Anything-V2',
    'unimatch-v2': 'LiheYoung/UniMatch-V2',
    'dinov2': 'facebookresearch/dinov2',
    'dinov3': 'facebookresearch/dinov3',
    'toolbox': 'zhyever/Monocular-Depth-Estimation-Toolbox',
    'mmsegmentation': 'open-mmlab/mmsegmentation',
}
"""Repositories on GitHub by the name of ``--reference``."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ', '.join(f'{name} ({source})' for name, source in REPOSITORIES.items())
    parser.add_argument(
        '--reference',
        action='append',
        default=[],
        metavar='NAME=PATH',
        help=f'clone of a repository; may be repeated. Names: {known}',
    )
    parser.add_argument('--links', default=','.join(LINKS), help='comma-separated, some of: %(default)s')
    return parser.parse_args(arguments)


def set_references(pairs: list[str]) -> None:
    """Fill ``REFERENCES`` from NAME=PATH.

    Raises:
        ValueError: If a name is unknown or a path is no folder.
    """
    for pair in pairs:
        name, _, path = pair.partition('=')
        folder = Path(path).expanduser()
        if name not in REPOSITORIES or not path:
            raise ValueError(f'--reference {pair}: expected NAME=PATH with NAME in {", ".join(REPOSITORIES)}')
        if not folder.is_dir():
            raise ValueError(f'--reference {pair}: {folder} is not a folder; clone {REPOSITORIES[name]}')
        REFERENCES[name] = folder.resolve()


def main(arguments: list[str] | None = None) -> int:
    """Run the comparisons, print the table and return the exit status."""
    args = parse_args(arguments)
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    links = [name for name in args.links.split(',') if name]
    try:
        set_references(args.reference)
        if not links or set(links) - set(LINKS):
            raise ValueError(f'--links {args.links}: choose from {",".join(LINKS)}')
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in links:
        start = time.monotonic()
        rows += importlib.import_module(f'depth_chain.{name}').rows()
        print(f'{name}: {time.monotonic() - start:.0f} s', file=sys.stderr, flush=True)
    print(render(rows))
    return exit_status(rows)


if __name__ == '__main__':
    sys.exit(main())
