"""One-line messages for errors that do not explain themselves."""

import errno
import os
import re
import traceback

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


def failed_assertion(error: AssertionError) -> str | None:
    """Return the assertion of mmcv or mmengine that failed without a text, such as ``assert 0 <= prob <= 1``.

    Returns ``None`` for assertions of other packages. The error may come from a worker of a data loader.
    """
    text = ''.join(traceback.format_exception(error))
    places = re.findall(r'File "([^"]*)", line \d+, in .*\n +(.*)', text)
    found = re.search(r'\b(mmcv|mmengine)/.*', places[-1][0]) if places else None
    return f'{places[-1][1]} failed in {found[0]}' if found else None
