"""The ``.npz`` files that Google publishes its ViTs in."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .bounds import check_archive


def read_npz(file: Path) -> dict[str, Tensor]:
    """Read every array of an ``.npz`` file. Nothing is unpickled.

    Raises:
        ValueError: the file is damaged or no ``.npz``, or holds something else than numbers.
    """
    try:
        check_archive(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise _unreadable(file, str(error)) from None
    try:
        # Opened here: numpy leaves a file open that it cannot read.
        with file.open('rb') as stream, np.load(stream, allow_pickle=False) as content:
            arrays = {key: np.asarray(content[key]) for key in content.files}  # bytes where it is no .npy
    except Exception as error:  # a damaged archive can fail in any way
        if 'allow_pickle' in str(error):
            raise _unreadable(file, 'it holds pickled objects') from None
        raise _unreadable(file, str(error) or type(error).__name__) from None
    others = [key for key, array in arrays.items() if array.dtype.kind not in 'fiu']
    if others:
        key = others[0]
        raise ValueError(
            f'{file}: {key} holds {arrays[key].dtype}, expected numbers of a type that numpy has: '
            'save the arrays as float32'
        )
    return {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays.items()}


def _unreadable(file: Path, cause: str) -> ValueError:
    return ValueError(
        f'{file}: cannot be read as .npz ({cause}; {file.stat().st_size:,} bytes). Expected arrays of '
        'numbers as google-research/vision_transformer publishes them; nothing of it was run'
    )
