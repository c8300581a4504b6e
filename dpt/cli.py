"""What the command-line tools share."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmengine.config import DictAction

from dpt.engine.distributed import LAUNCHERS
from dpt.os_errors import explain_os_error

WRONG_ARGUMENTS = re.compile(r'unexpected keyword argument|missing \d+ required')
"""What Python says where a config does not fit the constructor that it names."""


class Options(DictAction):
    """``KEY=VALUE`` pairs, as mmengine reads them, with an error that shows the one that is none."""

    def __call__(  # noqa: D102
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],  # type: ignore[override]
        option_string: str | None = None,
    ) -> None:
        for pair in values:
            if '=' not in pair:
                parser.error(f'{option_string} {pair}: expected KEY=VALUE')
        super().__call__(parser, namespace, values, option_string)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        default={},
        metavar='KEY=VALUE',
        help='override values of the config, e.g. data_root=/data/ade train_dataloader.batch_size=4',
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every tool that runs a config, on one or several processes."""
    add_config_options(parser)
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/<config name>)')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how processes were started')
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def explain(error: Exception) -> str | None:
    """Return one line about a user's mistake, or ``None`` if the error is a bug."""
    message = str(error)
    if 'in DataLoader worker process' in message:  # from a worker of the data loader
        message = message.strip().splitlines()[-1].partition(': ')[2] or message
    if isinstance(error, KeyError):
        key = str(error.args[0]) if error.args else ''
        return key if ' ' in key else f'the config lacks the key {key!r}'
    if isinstance(error, TypeError):
        return message if WRONG_ARGUMENTS.search(message) else None
    if isinstance(error, ImportError):  # a package that the config asks for; others are bugs
        return message if 'pip install' in message else None
    if isinstance(error, AssertionError):
        return message if 'failed to load image' in message else None
    if isinstance(error, OSError):
        return explain_os_error(error)
    return message if isinstance(error, ValueError) else None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake, such as an unknown argument in a config, into one line and exit status 1.

    ``DPT_TRACEBACK=1`` in the environment shows the traceback instead.
    """
    try:
        yield
    except Exception as error:
        message = explain(error)
        if message is None or os.environ.get('DPT_TRACEBACK') == '1':
            raise
        print(f'error: {message}\n(DPT_TRACEBACK=1 shows where)', file=sys.stderr)
        raise SystemExit(1) from None
