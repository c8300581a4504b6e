"""Find, check and write files for the tools."""

import glob
from collections.abc import Iterable
from pathlib import Path

from dpt.datasets.files import walk_files
from dpt.datasets.pairs import IMAGE_SUFFIXES
from dpt.files import write_whole
from dpt.visualization.files import write_depth, write_labels, write_picture

__all__ = [
    'PICTURE_SUFFIXES',
    'VIDEO_SUFFIXES',
    'check_figure_file',
    'check_picture_file',
    'find_files',
    'is_video',
    'write_depth',
    'write_labels',
    'write_lines',
    'write_picture',
]

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
