"""Write files atomically, and explain errors of the operating system."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PARTIAL = '.partial'
"""Suffix of files that are being written."""


@contextmanager
def whole_file(dst: Path) -> Iterator[BinaryIO]:
    """Open a temporary file and rename it to ``dst`` at the end, so that ``dst`` is complete or unchanged.

    The content is flushed to disk before the rename, so that a power failure does not leave an empty file.
    Creates the folder if needed.

    Raises:
        OSError: If the file cannot be written.
    """
    dst.parent.mkdir(parents=True, exist_ok=True)
    partial = dst.with_name(f'.{dst.name}.{uuid.uuid4().hex}{PARTIAL}')
    try:
        with partial.open('xb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, dst)
        if os.name == 'posix':  # other systems cannot open a folder
            folder = os.open(dst.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(content: bytes, dst: Path) -> None:
    """Write ``content`` to ``dst`` atomically, see :func:`whole_file`.

    Raises:
        OSError: If the file cannot be written.
    """
    with whole_file(dst) as file:
        file.write(content)


OS_REMEDIES = {
    errno.EEXIST: 'give another path, or move it away',
    errno.ENOTDIR: 'part of the path is a file, not a folder: give another path',
    errno.EISDIR: 'the path is a folder: give the path of a file',
    errno.ENOENT: 'check the path, or create the folder first',
    errno.EACCES: "check the file's permissions, or give another path",
    errno.EPERM: "check the file's permissions, or give another path",
    errno.EROFS: 'the file system is read-only: give another path',
    errno.ENOSPC: 'the disk is full: free some space, or give a path on another disk',
    errno.EDQUOT: 'the disk quota is exceeded: free some space, or give a path on another disk',
    errno.ENAMETOOLONG: 'the name is too long for this file system: give a shorter one',
}
"""Remedy for each ``errno``."""


def explain_os_error(error: OSError) -> str:
    """Return the file, the system's message and the remedy, if there is one in ``OS_REMEDIES``."""
    remedy = OS_REMEDIES.get(error.errno or 0)
    if error.strerror is None or remedy is None:
        return str(error)
    file = f'{os.fspath(error.filename)}: ' if isinstance(error.filename, (str, os.PathLike)) else ''
    return f'{file}{error.strerror}; {remedy}'
