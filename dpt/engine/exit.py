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
    kill_workers_at_exit()
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


def kill_workers_at_exit() -> None:
    """Let Python kill the workers of data loaders at its end, which it only asks to go, and then waits for.

    Those of a training leave the signal that asks them to the run, as ``dataloaders.begin_worker`` says.
    """
    atexit.unregister(_kill_workers)
    atexit.register(_kill_workers)


def _kill_workers() -> None:
    if hasattr(signal, 'SIGCHLD'):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for each of them
    for worker in multiprocessing.active_children():
        if worker.daemon:  # as workers are; others are somebody else's
            worker.kill()


def _end_within(seconds: float, status: int) -> None:
    def end() -> None:
        print(f'something is stuck for {seconds:g} s: ending with status {status}', file=sys.stderr)
        sys.stdout.flush()
        os._exit(status)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
