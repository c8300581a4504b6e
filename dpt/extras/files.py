"""Find, check and write files for the tools."""

import glob
import io
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from dpt.datasets.files import walk_files
from dpt.datasets.pairs import IMAGE_SUFFIXES
from dpt.files import write_whole

VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')
PICTURE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp')
"""Suffixes that :func:`write_picture` supports."""


def find_files(source: str | Path) -> list[tuple[Path, Path]]:
    """Find the images and videos of a path, a folder (including subfolders) or a glob pattern.

    Args:
        source: A file with any suffix, a folder, or a :mod:`glob` pattern, which may contain ``**``.

    Returns:
        Sorted (path, folder) pairs; the folder is the given folder, that of the file, or the part of the
        pattern before the first wildcard.

    Raises:
        FileNotFoundError: If there are no images or videos.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [(path, path.parent)]
    if path.is_dir():
        root, matches = path, [Path(entry.path) for entry in walk_files(path)]
    elif glob.has_magic(str(source)):
        fixed = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        root, matches = (
            Path(*path.parts[:fixed]),
            [Path(match) for match in glob.glob(str(path), recursive=True)],
        )
    else:
        raise FileNotFoundError(f'{source} does not exist')
    suffixes = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    found = [match for match in sorted(matches) if match.suffix.lower() in suffixes and not match.is_dir()]
    if not found:
        raise FileNotFoundError(f'{source}: no images or videos found (looked for {" ".join(suffixes)})')
    return [(match, root) for match in found]


def is_video(path: Path) -> bool:
    """Return whether a file has the suffix of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines to a text file, atomically."""
    write_whole(''.join(f'{line}\n' for line in lines).encode(), path)


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
    """Write an RGB picture, uint8 of shape HxWx3, atomically in the format of the suffix."""
    done, content = cv2.imencode(Path(path).suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        height, width = picture.shape[:2]
        raise ValueError(f'{path}: a picture of {height}x{width} cannot be written in this format; use .png')
    write_whole(content.tobytes(), Path(path))


def check_picture_file(path: str | Path, suffixes: Iterable[str] = PICTURE_SUFFIXES) -> None:
    """Check the path of an output picture before anything is computed.

    Raises:
        FileNotFoundError: If its folder does not exist.
        ValueError: If it does not have one of the suffixes.
    """
    if Path(path).suffix.lower() not in suffixes:
        raise ValueError(f'{path}: the name must end in one of {", ".join(suffixes)}')
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f'{path}: the folder does not exist')


def check_figure_file(path: str | Path) -> None:
    """Check the path of an output figure, like :func:`check_picture_file`, for the formats of matplotlib."""
    from matplotlib.backend_bases import FigureCanvasBase

    check_picture_file(path, tuple(f'.{name}' for name in FigureCanvasBase.get_supported_filetypes()))
