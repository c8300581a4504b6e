"""Errors for samples that cannot be used, and a count of the skipped samples."""

import struct
import zlib

import cv2
import numpy as np
import torch
from mmengine import fileio
from mmengine.logging import print_log
from PIL import Image


class BadSampleError(ValueError):
    """An image or mask that cannot be used; the message names the file.

    Args:
        message: One line, because tools print only the last line of a worker's error.
        kind: Short name of the fault, which ``tools/check_data.py`` counts.
    """

    def __init__(self, message: str, kind: str = 'other') -> None:
        super().__init__(message)
        self.kind = kind


class MissingFileError(FileNotFoundError):
    """An image or mask that does not exist.

    Args:
        message: One line that names the file.
        kind: As in :class:`BadSampleError`.
    """

    def __init__(self, message: str, kind: str = 'file missing') -> None:
        super().__init__(message)
        self.kind = kind


def read_file(path: str, what: str, backend_args: dict | None = None) -> bytes:
    """Return the content of a file.

    Args:
        path: Path or URL that mmengine's file backends support.
        what: ``'image'``, ``'mask'`` or ``'depth'``, for the error message.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        MissingFileError: If the file does not exist.
        BadSampleError: If it cannot be read or is empty.
    """
    try:
        if backend_args is None and '://' not in path:  # faster than mmengine's local backend
            with open(path, 'rb') as file:
                content = file.read()
        else:
            content = fileio.get(path, backend_args=backend_args)
    except FileNotFoundError as error:
        raise MissingFileError(f'{what} {path} does not exist', f'{what} missing') from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadSampleError(f'{what} {path} cannot be read: {reason}', f'{what} unreadable') from error
    if not content:
        raise BadSampleError(f'{what} {path} is empty: 0 bytes', f'{what} empty')
    return content


TOO_NARROW = 'one side would be shorter than one pixel after resizing; remove or crop this image'
"""Message for images that are too elongated to be resized with their aspect ratio."""

FILE_ERRORS = (BadSampleError, OSError, cv2.error)
"""Exceptions caused by the files of a sample."""

DECODER_ERRORS = (
    *(OSError, SyntaxError, EOFError, MemoryError, struct.error, zlib.error, cv2.error),
    Image.DecompressionBombError,
)
"""Exceptions with which OpenCV and Pillow refuse a file."""


def name_sample(error: Exception, sample: dict) -> BadSampleError:
    """Return the error as a BadSampleError whose message names the file of the sample."""
    message = ' '.join(str(error).splitlines()) or type(error).__name__
    path = sample.get('img_path')
    if isinstance(error, cv2.error) and 'inv_scale_' in message:  # OpenCV checks the new size
        return BadSampleError(f'image {path}: {TOO_NARROW}', 'image too narrow')
    kind = getattr(error, 'kind', 'file missing' if isinstance(error, FileNotFoundError) else 'other')
    paths = (sample.get(key) for key in ('img_path', 'seg_map_path', 'depth_map_path'))
    named = any(file and str(file) in message for file in paths)
    return BadSampleError(message if named else f'image {path}: {message}', kind)


class BadSampleCount:
    """Counts the bad samples of a data set across all data-loading workers of a process.

    Args:
        size: Number of samples.
        limit: Maximum number of distinct bad samples.
    """

    def __init__(self, size: int, limit: int) -> None:
        self.limit = limit
        self.seen = torch.zeros(size, dtype=torch.uint8).share_memory_()  # shared with the workers

    def add(self, index: int, error: BadSampleError) -> None:
        """Count a sample, and log a warning the first time.

        Raises:
            BadSampleError: If there are more than ``limit`` bad samples.
        """
        if self.seen[index]:
            return
        self.seen[index] = 1
        count = int(np.count_nonzero(self.seen.numpy()))
        if count > self.limit:
            raise BadSampleError(
                f'{error} (bad sample number {count}, which exceeds max_bad_samples={self.limit}; '
                'tools/check_data.py lists all bad samples)',
                error.kind,
            ) from error
        print_log(f'skipped, {count} of at most {self.limit} bad samples: {error}', 'current', 30)
