"""Annotations of a user, whatever their kind, as one whole number a pixel."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from dpt.datasets.bad_sample import BadSampleError
from dpt.datasets.transforms import LoadAnnotations

INDEX_MODES = ('1', 'L', 'I', 'I;16', 'P')
COLOUR_MODES = ('RGB', 'RGBA')
BACKGROUND = 'background'


class Reader(Protocol):
    """Reads annotations.

    Its ``kind`` is told to the user; ``names`` and ``colours`` (RGB) are those that the annotations state, by
    number. A number below 256 is a label on disk where ``in_place`` is true.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def in_place(self) -> bool: ...  # noqa: D102
    @property
    def names(self) -> Mapping[int, str]: ...  # noqa: D102
    @property
    def colours(self) -> Mapping[int, tuple[int, int, int]]: ...  # noqa: D102

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """Return the number of each pixel, HxW; BadSampleError where the file cannot be used.

        Args:
            path: Path of the annotation.
            size: (height, width) of the image.
        """
        ...

    def show(self, number: int) -> str:
        """Return how the annotations write this number."""
        ...


@dataclass
class IndexReader:
    """Masks whose pixels are numbers: grey, or a palette's index."""

    kind: str = 'index masks'
    in_place: bool = True
    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        return LoadAnnotations().read(str(path))  # as training reads them

    def show(self, number: int) -> str:
        return str(number)


def palette_reader(path: Path) -> IndexReader:
    """Return the reader of palette images, with the colours of this one."""
    with Image.open(path) as image:
        flat = image.getpalette() or []
    colours = {
        at // 3: (flat[at], flat[at + 1], flat[at + 2]) for at in range(0, len(flat) - len(flat) % 3, 3)
    }
    return IndexReader('palette images', colours=colours)


@dataclass
class ColourReader:
    """Masks whose colours are classes; a number is red x 65536 + green x 256 + blue."""

    kind: str = 'colour masks'
    in_place: bool = False
    names: dict[int, str] = field(default_factory=dict)

    @property
    def colours(self) -> Mapping[int, tuple[int, int, int]]:
        return _AllColours()

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is None:
            raise BadSampleError(f'mask {path} cannot be read: it is damaged or no image', 'mask damaged')
        blue, green, red = (picture[..., channel].astype(np.int32) for channel in range(3))
        return red << 16 | green << 8 | blue

    def show(self, number: int) -> str:
        return ','.join(map(str, self.colours[number]))


class _AllColours(dict):
    def __missing__(self, number: int) -> tuple[int, int, int]:
        return number >> 16, number >> 8 & 255, number & 255

    def get(self, number, default=None):
        return self[number]


def image_reader(path: Path) -> Reader:
    """Return the reader for masks of the kind of this one.

    Raises:
        ValueError: It is no image that can be a mask.
    """
    try:
        with Image.open(path) as image:
            mode, kind = image.mode, image.format
    except OSError as error:
        raise ValueError(f'mask {path} is damaged or not an image: {error}') from error
    if mode == 'P':
        return palette_reader(path)
    if mode in INDEX_MODES:
        return IndexReader()
    if mode in COLOUR_MODES:
        return ColourReader()
    raise ValueError(
        f'mask {path} ({kind}) stores pixels as {mode}: {", ".join(INDEX_MODES + COLOUR_MODES)} can be read'
    )
