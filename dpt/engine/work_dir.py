"""One run at a time in a work directory; a run that torchrun restarts finds its own checkpoints."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dpt.engine.distributed import RANK, restarted

LOCK_NAME = '.lock'
RUN_NAME = '.run.json'
"""Names the process that holds the lock; written when a run begins, not when torchrun restarts it."""
PATIENCE = 10.0
"""Seconds to wait for the lock: forked workers of a killed run hold it until they notice, after 5 s."""


@contextlib.contextmanager
def locked_work_dir(work_dir: str | Path, launcher: str = 'none') -> Iterator[None]:
    """Create ``work_dir`` and keep other runs out of it for as long as the block lasts.

    Rank 0 holds the lock for all processes. The system releases it however the process ends.

    Args:
        work_dir: Where the run writes.
        launcher: How the processes were started; determines the rank.

    Raises:
        BlockingIOError: If another run holds the lock; the message names it.
    """
    if os.environ.get(RANK.get(launcher, ''), '0') != '0':
        yield
        return
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        holder = _holder(folder)
        raise BlockingIOError(
            f'work directory {folder} is in use by process {holder.get("pid", "?")} on '
            f'{holder.get("host", "?")}, started {holder.get("started", "?")}: a second run there would '
            'overwrite its checkpoints. Wait for it or stop it, or give another --work-dir'
        ) from None
    try:
        if not restarted():
            content = dict(host=socket.gethostname(), pid=os.getpid(), started=time.strftime('%F %T'))
            (folder / RUN_NAME).write_text(json.dumps(content))
        yield
    finally:
        lock.release()


def _holder(folder: Path) -> dict:
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / RUN_NAME).read_text())
    return {}


def saved_before_restart(work_dir: str | Path) -> bool:
    """Whether torchrun has restarted this run after it had saved a checkpoint.

    A checkpoint that was in the work directory before the run began belongs to another run.
    """
    pointer, run = Path(work_dir) / 'last_checkpoint', Path(work_dir) / RUN_NAME
    if not restarted() or not pointer.is_file() or not run.is_file():
        return False
    return pointer.stat().st_mtime >= run.stat().st_mtime
