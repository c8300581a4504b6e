"""How large the content of a file may become: what inflates to many times its size is refused beforehand."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

LARGEST_RATIO = 16
"""Content by size of the file. Trained weights hardly shrink when they are compressed."""
FREE = 64 << 20
"""Bytes of content that any file may have: small files of zeros shrink to nearly nothing."""


def check_archive(file: Path, *, ratio: int = LARGEST_RATIO) -> None:
    """Refuse a zip archive whose directory announces more content than a checkpoint of its size has.

    Reading stops where the directory says that an entry ends, so that the announced sizes are a bound.

    Raises:
        ValueError: it announces too much.
        zipfile.BadZipFile, OSError: it is no readable archive.
    """
    with zipfile.ZipFile(file) as archive:
        content = sum(entry.file_size for entry in archive.infolist())
    _check(file, content, ratio, 'unpacked')


def check_tensors(file: Path, content: object) -> None:
    """Refuse tensors of which a few numbers of the file stand for many (a stride of 0), once copied.

    Raises:
        ValueError: all of them together are too large for the file.
    """
    size = sum(value.numel() * value.element_size() for value in leaves(content) if isinstance(value, Tensor))
    _check(file, size, LARGEST_RATIO, 'copied')


def _check(file: Path, content: int, ratio: int, how: str) -> None:
    size = file.stat().st_size
    if content > ratio * size + FREE:
        raise ValueError(
            f'{file}: refused, because its {size:,} bytes would become {content:,} when {how}, far more than '
            'weights do. Nothing of it was used; get the file from a source that you trust'
        )


def leaves(content: object) -> Iterator[Any]:
    """All values in nested dicts, lists and tuples, each container once however often it is named.

    A file can name one list twice in another, that one twice in a third, and so on: 60 of them would take
    ages otherwise. Nor is there a depth at which this fails.
    """
    seen: set[int] = set()
    waiting: list[Any] = [content]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, (Mapping, list, tuple)):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, Mapping) else value)
