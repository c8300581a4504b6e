"""Arguments and error handling shared by the command-line tools."""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from dpt.config.assertions import failed_assertion
from dpt.config.options import OptionText
from dpt.engine.distributed import LAUNCHERS
from dpt.files import explain_os_error

WRONG_ARGUMENTS = re.compile(r'unexpected keyword argument|missing \d+ required')
"""Python's messages for a config whose arguments do not fit the constructor."""


class Options(argparse.Action):
    """``KEY=VALUE`` pairs; ``load_config`` converts the texts to the types of what they replace."""

    def __call__(  # noqa: D102
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for pair in values:
            key, equals, text = pair.partition('=')
            if not equals:
                parser.error(f'{option_string} {pair}: expected KEY=VALUE')
            options[key] = OptionText(text)
        setattr(namespace, self.dest, options)


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
    """Add the arguments shared by the tools that run a config in one or several processes."""
    add_config_options(parser)
    parser.add_argument('--work-dir', help='folder of logs and checkpoints (default: work_dirs/CONFIG_NAME)')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='launcher of the processes')
    # Passed by torch.distributed.launch; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def explain(error: Exception) -> str | None:
    """Return a one-line message for a user's mistake, or ``None`` if the error is a bug."""
    message = str(error)
    if 'in DataLoader worker process' in message:
        last = message.strip().splitlines()[-1].partition(': ')[2]
        message = last if last or isinstance(error, AssertionError) else message
    if isinstance(error, KeyError):
        key = str(error.args[0]) if error.args else ''
        return key if ' ' in key else f'the config lacks the key {key!r}'
    if isinstance(error, TypeError):
        return message if WRONG_ARGUMENTS.search(message) else None
    if isinstance(error, ImportError):  # an optional package is missing; other import errors are bugs
        return message if 'pip install' in message else None
    if isinstance(error, AssertionError):
        if 'failed to load image' in message:
            return message
        assertion = failed_assertion(error)
        return assertion and (message or assertion)
    if isinstance(error, OSError):
        return explain_os_error(error)
    return message if isinstance(error, ValueError) else None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print a user's mistake, such as an unknown argument in a config, in one line and exit with status 1.

    If ``DPT_TRACEBACK=1`` is set in the environment, raise the error instead. If the reader of the output has
    closed it, as ``head`` does, exit silently.
    """
    try:
        yield
        sys.stdout.flush()
    except Exception as error:
        if isinstance(error, BrokenPipeError):
            _exit_if_output_is_closed()
        message = explain(error)
        if message is None or os.environ.get('DPT_TRACEBACK') == '1':
            raise
        by_torchrun = 'TORCHELASTIC_ERROR_FILE' in os.environ
        if by_torchrun:
            _record(message)
        if not by_torchrun or os.environ.get('RANK') == '0':
            print(f'error: {message}\n(set DPT_TRACEBACK=1 to see the traceback)', file=sys.stderr)
        raise SystemExit(1) from None


def _exit_if_output_is_closed() -> None:
    try:
        print(flush=True)  # fails again if the output is what is closed
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        raise SystemExit(1) from None


def _record(message: str) -> None:
    """Write the message to the file from which torchrun makes its report."""
    try:
        raise ValueError(message) from None
    except ValueError as error:
        get_error_handler().record_exception(error)
