"""Is it the whole of ADEChallengeData2016, and that archive? Told by names and sizes of the images."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

ARCHIVE = 'ADEChallengeData2016'
NAME = re.compile(r'ADE_(?:train|val)_(\d{8})\.jpg')
BLOCK = 1000
"""Images, by number, that one checksum stands for."""


@dataclass(frozen=True)
class Split:
    """The images of a split, numbered from 1.

    Args:
        prefix: How their names start.
        count: How many there are.
        checksums: CRC-32 of each block of ``BLOCK`` images, over lines ``NAME WIDTHxHEIGHT`` in order.
    """

    prefix: str
    count: int
    checksums: tuple[str, ...]

    def name(self, number: int) -> str:
        """Return the file name of an image."""
        return f'{self.prefix}{number:08d}.jpg'


# From the lists training.odgt and validation.odgt that the release's authors publish with their code.
_TRAINING = """\
9ab7593d b158c596 afb9b385 288c379e ee8ebd4f 4edfad58 7333af06 787cb5da 96140fc1 ce700ede 6452489a
c2e69840 8a34ee0a 4887eb94 aebe5785 d2ecdd04 a21fe12e 610abf50 3dfbc30a a56eda25 da46b999"""
SPLITS = (
    Split('ADE_train_', 20210, tuple(_TRAINING.split())),
    Split('ADE_val_', 2000, ('11de820c', '9e8e14eb')),
)


def checksum(lines: list[str]) -> str:
    """Return the checksum of a block, given a line ``NAME WIDTHxHEIGHT`` an image."""
    return f'{zlib.crc32("".join(line + chr(10) for line in lines).encode()):08x}'


def compare_with_release(sizes: Mapping[str, tuple[int, int] | None]) -> list[str]:
    """Compare a split with the release.

    Args:
        sizes: (height, width) by file name without folder; None for an image that cannot be read.

    Returns:
        What is wrong, a line each; empty for a complete split.
    """
    strange = [name for name in sizes if not NAME.fullmatch(name)]
    if strange:
        return [
            f'{len(strange)} images are not named as in {ARCHIVE}, such as {strange[0]}: another archive?'
        ]
    split = next((one for one in SPLITS if all(name.startswith(one.prefix) for name in sizes)), None)
    if split is None:
        return ['the folder mixes images of training and validation']
    expected = {split.name(number) for number in range(1, split.count + 1)}
    missing, extra = sorted(expected - set(sizes)), sorted(set(sizes) - expected)
    found = []
    if missing:
        found.append(f'{len(missing)} of {split.count:,} images are missing, the first {missing[0]}')
    if extra:
        found.append(
            f'{len(extra)} images beyond the {split.count:,} of {ARCHIVE}, the first {extra[0]}: '
            'that is the full ADE20K release, the wrong archive'
        )
    return found + _compare_sizes(sizes, split)


def _compare_sizes(sizes: Mapping[str, tuple[int, int] | None], split: Split) -> list[str]:
    found = []
    for block, expected in enumerate(split.checksums):
        first, last = block * BLOCK + 1, min((block + 1) * BLOCK, split.count)
        names = [split.name(number) for number in range(first, last + 1)]
        known = [(name, sizes.get(name)) for name in names]
        lines = [f'{name} {size[1]}x{size[0]}' for name, size in known if size is not None]
        if len(lines) == len(names) and checksum(lines) != expected:
            found.append(
                f'sizes of {names[0]} to {names[-1]} differ from {ARCHIVE}: resized, or another archive'
            )
    return found
