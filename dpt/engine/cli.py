"""What the command-line tools share."""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import DictAction

from dpt.engine.launch import LAUNCHERS

WRONG_ARGUMENTS = re.compile(r'unexpected keyword argument|missing \d+ required')
"""What Python says where a config does not fit the constructor that it names."""


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every tool that runs a config, on one or several processes."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='override values of the config, e.g. data_root=/data/ade train_dataloader.batch_size=4',
    )
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/<config name>)')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how processes were started')
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def set_local_rank(local_rank: int) -> None:
    """Tell mmengine the local rank where the launcher did not; mpirun has a variable of its own."""
    os.environ.setdefault('LOCAL_RANK', os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', str(local_rank)))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake, such as an unknown argument in a config, into one line and exit status 1.

    ``DPT_TRACEBACK=1`` in the environment shows the traceback instead.
    """
    try:
        yield
    except (ValueError, FileNotFoundError, KeyError, TypeError) as error:
        is_bug = isinstance(error, TypeError) and not WRONG_ARGUMENTS.search(str(error))
        if is_bug or os.environ.get('DPT_TRACEBACK') == '1':
            raise
        message = error.args[0] if error.args and isinstance(error, KeyError) else error
        print(f'error: {message}\n(DPT_TRACEBACK=1 shows where)', file=sys.stderr)
        raise SystemExit(1) from None
