"""Write label maps and pictures."""

import io
from pathlib import Path

import cv2
import numpy as np

from dpt.files import write_whole


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write labels of shape HxW atomically as a grey PNG, with 8 bits for uint8 and 16 bits otherwise."""
    if labels.dtype != np.uint8:
        labels = labels.astype(np.uint16)
    write_whole(cv2.imencode('.png', labels)[1].tobytes(), path)


def write_depth(target: Path, depth: np.ndarray, factor: float | None = None) -> None:
    """Write a depth map of shape HxW atomically to a path without suffix.

    Args:
        target: The path; ``.npy`` (float32) or ``.png`` is appended.
        depth: Values of shape HxW.
        factor: Write a grey PNG of 16 bits with depth times this; None writes the values as they are.

    Raises:
        ValueError: If values times the factor are too large for 16 bits.
    """
    if factor is None:
        file = io.BytesIO()
        np.save(file, depth.astype(np.float32))
        write_whole(file.getvalue(), target.with_name(f'{target.name}.npy'))
        return
    scaled = np.rint(depth.astype(np.float64) * factor)
    largest = np.iinfo(np.uint16).max
    if not scaled.max(initial=0) <= largest:
        raise ValueError(
            f'{target}: depth up to {depth.max():g} times {factor:g} exceeds {largest}, the largest number '
            f'of 16 bits: use a factor of at most {largest / depth.max():.3g}, or .npy files'
        )
    content = cv2.imencode('.png', scaled.clip(0).astype(np.uint16))[1].tobytes()
    write_whole(content, target.with_name(f'{target.name}.png'))


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write an RGB picture, uint8 of shape HxWx3, atomically in the format of the suffix.

    Raises:
        ValueError: If the suffix is unknown, or the picture too large for the format.
        OSError: If the file cannot be written.
    """
    try:
        content = encode_picture(Path(path).suffix, picture)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    write_whole(content, Path(path))


def encode_picture(suffix: str, picture: np.ndarray) -> bytes:
    """Return an RGB picture, uint8 of shape HxWx3, as the content of a file.

    Raises:
        ValueError: If the suffix is unknown, or the picture too large for the format.
    """
    try:
        done, content = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:  # unknown suffix
        done = False
    if not done:
        height, width = picture.shape[:2]
        raise ValueError(f'a picture of {height}x{width} cannot be written in this format; use .png')
    return content.tobytes()


def show_picture(picture: np.ndarray) -> None:
    """Show an RGB picture, uint8 of shape HxWx3, below the cell of a notebook or in a window.

    Raises:
        ValueError: If matplotlib finds no display.
    """
    import matplotlib.pyplot as plt  # chooses the backend

    if plt.get_backend().lower() == 'agg':
        raise ValueError('there is no display to show a picture on: write it to a file with save(path)')
    height, width = picture.shape[:2]
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100, frameon=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(picture)
    plt.show()
