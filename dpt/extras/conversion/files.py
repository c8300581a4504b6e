"""Writing files so that whatever has its name is complete."""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside ``path``, then rename. Its folder is made.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.partial')
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, a line each.

    Raises:
        OSError: It cannot be written.
    """
    write_bytes(path, ''.join(f'{line}\n' for line in lines).encode())


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank.

    Raises:
        FileNotFoundError: It is not there.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    return [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]


def write_mask(path: Path, labels: np.ndarray) -> None:
    """Write labels of shape HxW, uint8 or uint16, as a grey PNG.

    Raises:
        OSError: It cannot be written.
    """
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f'{path}: labels of {labels.dtype} and shape {labels.shape}: HxW uint8 was expected')
    write_bytes(path, cv2.imencode('.png', labels)[1].tobytes())
