"""The end of a training process."""

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator

_PATIENCE = 30.0, 120.0  # seconds; after an error a checkpoint may still be on its way to the disk


@contextlib.contextmanager
def ends_for_sure() -> Iterator[None]:
    """Let the process end after the block, whatever a worker of a data loader is stuck in.

    Python waits for child processes, and for the queues that lead to them, without limit. The workers that
    are left are killed; should that not do, the process ends itself with the status that it was to have.
    """
    atexit.register(_kill_workers)
    status = 0
    try:
        yield
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except BaseException:
        status = 1
        raise
    finally:
        _end_within(_PATIENCE[status == 1], status)


def _kill_workers() -> None:
    if hasattr(signal, 'SIGCHLD'):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for each of them
    for worker in multiprocessing.active_children():
        worker.kill()


def _end_within(seconds: float, status: int) -> None:
    def end() -> None:
        print(f'something is stuck for {seconds:g} s: ending with status {status}', file=sys.stderr)
        sys.stdout.flush()
        os._exit(status)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
