"""One run at a time in a work directory; a run that torchrun starts again knows its own checkpoints."""

import contextlib
import errno
import functools
import io
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = '.lock'
RANK = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
"""Environment variable in which each launcher tells a process its rank."""
RESTARTS = 'TORCHELASTIC_RESTART_COUNT'
"""Environment variable in which torchrun tells how often it has started the processes anew."""

_NOT_SUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_SIZE = 512  # bytes of the lock file: it is always written whole, at once
_held: set[io.FileIO] = set()


@contextlib.contextmanager
def locked_work_dir(work_dir: str | Path, launcher: str = 'none') -> Iterator[None]:
    """Keep other runs out of ``work_dir``, which is made, for as long as the block lasts.

    The first process of a job holds the lock for all. It belongs to the process, so that the system frees it
    however the process ends; there are no stale locks to delete. Between machines it works on file systems
    with shared locks (NFS from version 4 on, Lustre mounted with ``flock``).

    Args:
        work_dir: Where the run writes.
        launcher: How the processes were started; tells the first one.

    Raises:
        BlockingIOError: If another run holds it; says which, and what to do.
    """
    if os.environ.get(RANK.get(launcher, ''), '0') != '0':
        yield
        return
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    path.touch()
    with path.open('r+b', buffering=0) as file:
        _lock(file, folder)
        _close_in_children()
        _held.add(file)
        _write(file)
        try:
            yield
        finally:
            _held.discard(file)


def saved_before_restart(work_dir: str | Path) -> bool:
    """Whether torchrun has started this run anew after it had saved a checkpoint.

    A checkpoint that was in the work directory before the run began does not count: it is another run's.
    """
    pointer = Path(work_dir) / 'last_checkpoint'
    if not restarted() or not pointer.is_file():
        return False
    with contextlib.suppress(OSError), (Path(work_dir) / LOCK_NAME).open('rb', buffering=0) as file:
        began = _read(file).get('began')
        return isinstance(began, float) and pointer.stat().st_mtime >= began
    return False


def restarted() -> bool:
    """Whether torchrun (``--max-restarts``) has started the processes of this run anew."""
    return os.environ.get(RESTARTS, '0') != '0'


def _lock(file: io.FileIO, folder: Path) -> None:
    if fcntl is None:
        warnings.warn(f'{folder}: this system has no file locks; start no second run there', stacklevel=3)
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _read(file)
        raise BlockingIOError(
            f'work directory {folder} is in use by process {holder.get("pid", "?")} on '
            f'{holder.get("host", "?")}, started {holder.get("started", "?")}: a second run there would '
            'overwrite its checkpoints. Wait for it or stop it, or give another --work-dir'
        ) from None
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        warnings.warn(
            f'{folder}: its file system has no locks ({error}); start no second run there', stacklevel=3
        )


@functools.cache
def _close_in_children() -> None:
    """Let no forked worker of the data loader hold the lock longer than the run itself."""
    if hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_child=_close_held)


def _close_held() -> None:
    for file in _held:
        file.close()


def _read(file: io.FileIO) -> dict:
    try:
        content = json.loads(os.pread(file.fileno(), _SIZE, 0))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _write(file: io.FileIO) -> None:
    began = _read(file).get('began') if restarted() else None
    if began is None:
        os.utime(file.fileno())
        began = os.fstat(file.fileno()).st_mtime  # by the clock of the file system, as those of checkpoints
    started = time.strftime('%Y-%m-%d %H:%M:%S')
    content = dict(host=socket.gethostname(), pid=os.getpid(), started=started, began=began)
    os.pwrite(file.fileno(), json.dumps(content).encode()[:_SIZE].ljust(_SIZE), 0)
