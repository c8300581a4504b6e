"""Samples that cannot be trained on or evaluated: told by the name of their file, or skipped and counted."""

import cv2
import numpy as np
import torch
from mmengine import fileio
from mmengine.logging import print_log


class BadSampleError(ValueError):
    """An image or mask that cannot be used; the message names the file.

    Args:
        message: One line: tools show the last line of what a worker hands on.
        kind: Short name of the fault, by which ``tools/check_data.py`` counts.
    """

    def __init__(self, message: str, kind: str = 'other') -> None:
        super().__init__(message)
        self.kind = kind


def read_file(path: str, what: str, backend_args: dict | None = None) -> bytes:
    """Return the content of a file.

    Args:
        path: Path or URL, as mmengine's file backends take it.
        what: ``'image'`` or ``'mask'``, for the message.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        FileNotFoundError: The file does not exist.
        BadSampleError: It cannot be read, or is empty.
    """
    try:
        content = _content(path, backend_args)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{what} {path} does not exist') from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadSampleError(f'{what} {path} cannot be read: {reason}', f'{what} unreadable') from error
    if not content:
        raise BadSampleError(f'{what} {path} is empty: 0 bytes', f'{what} empty')
    return content


def _content(path: str, backend_args: dict | None) -> bytes:
    if (
        backend_args is None and '://' not in path
    ):  # what mmengine's backend of local files does, in less time
        with open(path, 'rb') as file:
            return file.read()
    return fileio.get(path, backend_args=backend_args)


TOO_NARROW = 'a side would be shorter than one pixel after resizing; leave this image out, or crop it'
"""What is wrong with a strip of an image, which no resizing with its aspect ratio kept can use."""

FILE_ERRORS = (BadSampleError, OSError, cv2.error)
"""What is raised where the files of a sample are at fault."""


def name_sample(error: Exception, sample: dict) -> BadSampleError:
    """Return the error with the sample's file in its message, where it is not there yet."""
    message = ' '.join(str(error).splitlines()) or type(error).__name__
    path = sample.get('img_path')
    if isinstance(error, cv2.error) and 'inv_scale_' in message:  # OpenCV's check of the new size
        return BadSampleError(f'image {path}: {TOO_NARROW}', 'image too narrow')
    if isinstance(error, FileNotFoundError):
        kind = f'{message.split(" ")[0]} missing' if message.endswith('does not exist') else 'file missing'
    else:
        kind = getattr(error, 'kind', 'other')
    named = any(sample.get(key) and str(sample[key]) in message for key in ('img_path', 'seg_map_path'))
    return BadSampleError(message if named else f'image {path}: {message}', kind)


class BadSampleCount:
    """Which samples of a data set were bad, over all loader workers of a process.

    Args:
        size: Number of samples.
        limit: How many different samples may be bad.
    """

    def __init__(self, size: int, limit: int) -> None:
        self.limit = limit
        self.seen = torch.zeros(size, dtype=torch.uint8).share_memory_()  # workers inherit it

    def add(self, index: int, error: BadSampleError) -> None:
        """Count a sample and warn of it, the first time it is met.

        Raises:
            BadSampleError: There are more than ``limit``.
        """
        if self.seen[index]:
            return
        self.seen[index] = 1
        count = int(np.count_nonzero(self.seen.numpy()))
        if count > self.limit:
            raise BadSampleError(
                f'{error} (bad sample number {count}, more than max_bad_samples={self.limit}; '
                'tools/check_data.py lists them all)',
                error.kind,
            ) from error
        print_log(f'skipped, {count} of at most {self.limit} bad samples: {error}', 'current', 30)
