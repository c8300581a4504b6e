"""Remedies for errors of the operating system."""

import errno

import pytest

from dpt.os_errors import explain_os_error


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (
            FileExistsError(errno.EEXIST, 'File exists', 'out'),
            'out: File exists; give another path, or move it away',
        ),
        (
            OSError(errno.ENOSPC, 'No space left'),
            'No space left; the disk is full: free some space, or give a path on another disk',
        ),
        (OSError(errno.EIO, 'Input/output error', 'out'), "[Errno 5] Input/output error: 'out'"),
        (FileNotFoundError('no checkpoint in out'), 'no checkpoint in out'),
    ],
)
def test_the_message_has_the_file_and_the_remedy(error: OSError, line: str) -> None:
    assert explain_os_error(error) == line
