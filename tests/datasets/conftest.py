"""A small data set in ADE20K's layout, written to a temporary folder."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


def write_pair(root: Path, name: str, height: int = 21, width: int = 34, classes: int = 5) -> None:
    """Write ``images/NAME.jpg`` and ``annotations/NAME.png`` with random content."""
    generator = np.random.default_rng(len(name))
    for folder in ('images', 'annotations'):
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert cv2.imwrite(str(root / 'images' / f'{name}.jpg'), image)
    labels = generator.integers(0, classes, (height, width), dtype=np.uint8)
    assert cv2.imwrite(str(root / 'annotations' / f'{name}.png'), labels)


@pytest.fixture
def make_root(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes image and mask of each name and returns the folder."""

    def make(*names: str) -> Path:
        for name in names:
            write_pair(tmp_path, name)
        return tmp_path

    return make
