"""What to do about an error of the operating system."""

import errno
import os

OS_REMEDIES = {
    errno.EEXIST: 'give another path, or move it away',
    errno.ENOTDIR: 'a part of that path is a file, where a folder is needed: give another path',
    errno.EISDIR: 'it is a folder, where a file is needed: give the path of a file',
    errno.ENOENT: 'check the path, or make the folder first',
    errno.EACCES: "check the file's permissions, or give another path",
    errno.EPERM: "check the file's permissions, or give another path",
    errno.EROFS: 'the file system is read-only: give another path',
    errno.ENOSPC: 'the disk is full: make room, or give a path on another disk',
    errno.EDQUOT: 'the disk quota is used up: make room, or give a path on another disk',
    errno.ENAMETOOLONG: 'the name is too long for this file system: give a shorter one',
}
"""What to do about an error that the system names by number."""


def explain_os_error(error: OSError) -> str:
    """Return the file, what the system says of it, and the remedy where one is known."""
    remedy = OS_REMEDIES.get(error.errno or 0)
    if error.strerror is None or remedy is None:
        return str(error)
    file = f'{os.fspath(error.filename)}: ' if isinstance(error.filename, (str, os.PathLike)) else ''
    return f'{file}{error.strerror}; {remedy}'
