"""Lock of a work directory, and detection of checkpoints saved before a restart by torchrun."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dpt.engine.checkpointing import POINTER
from dpt.engine.distributed import is_first, restarted

LOCK_NAME = '.lock'
RUN_NAME = '.run.json'
"""File that describes the process holding the lock; not rewritten when torchrun restarts the run."""
PATIENCE = 10.0
"""Seconds to wait for the lock, because forked workers of a killed run hold it for up to 5 s."""


@contextlib.contextmanager
def locked_work_dir(work_dir: str | Path, launcher: str = 'none') -> Iterator[None]:
    """Create ``work_dir`` and lock it against other runs.

    Rank 0 holds the lock for all processes. The system releases the lock even if the process is killed.

    Args:
        work_dir: Work directory of the run.
        launcher: Launcher of the processes, which determines the variable with the rank.

    Raises:
        BlockingIOError: If another run holds the lock; the message names its process.
    """
    if not is_first(launcher):
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
            f'{holder.get("host", "?")}, started {holder.get("started", "?")}: a second run would '
            'overwrite its checkpoints. Wait for it, stop it, or use another --work-dir'
        ) from None
    try:
        if not restarted():
            content = dict(host=socket.gethostname(), pid=os.getpid(), started=time.strftime('%F %T'))
            (folder / RUN_NAME).write_text(json.dumps(content))
        yield
    finally:
        lock.release()


def is_in_use(work_dir: str | Path) -> bool:
    """Return whether a training of ``tools/train.py`` runs in a work directory."""
    file = Path(work_dir, LOCK_NAME)
    if not file.is_file():
        return False
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _holder(folder: Path) -> dict:
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / RUN_NAME).read_text())
    return {}


def saved_before_restart(work_dir: str | Path) -> bool:
    """Whether torchrun has restarted this run after it saved a checkpoint.

    A checkpoint older than the start of the run belongs to another run.
    """
    pointer, run = Path(work_dir) / POINTER, Path(work_dir) / RUN_NAME
    if not restarted() or not pointer.is_file() or not run.is_file():
        return False
    return pointer.stat().st_mtime >= run.stat().st_mtime
