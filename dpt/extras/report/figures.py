"""Files of pictures and figures."""

from pathlib import Path

import cv2
import numpy as np

PICTURES = ('.png', '.jpg', '.jpeg', '.webp')


def check_figure_file(path: str | Path) -> None:
    """Refuse a file that matplotlib could not write, before anything is computed.

    Raises:
        FileNotFoundError: If its folder does not exist.
        ValueError: If its suffix is of no format that matplotlib writes.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    _check(Path(path), tuple(f'.{name}' for name in FigureCanvasBase.get_supported_filetypes()))


def check_picture_file(path: str | Path) -> None:
    """Refuse a file that :func:`write_picture` could not write, before anything is computed.

    Raises:
        FileNotFoundError: If its folder does not exist.
        ValueError: If its suffix is none of ``PICTURES``.
    """
    _check(Path(path), PICTURES)


def _check(path: Path, suffixes: tuple[str, ...]) -> None:
    if path.suffix.lower() not in suffixes:
        raise ValueError(f'{path}: the name must end in one of {", ".join(suffixes)}')
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f'{path}: the folder does not exist')


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write an RGB picture, uint8 of shape HxWx3.

    Raises:
        OSError: If it cannot be written.
    """
    _, content = cv2.imencode(Path(path).suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    Path(path).write_bytes(content.tobytes())
