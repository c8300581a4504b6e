"""Find the files of a data set."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine import fileio
from mmengine.fileio import LocalBackend


def walk_files(folder: str | Path, above: frozenset[str] = frozenset()) -> Iterator[os.DirEntry]:
    """Yield the files below a folder, also below linked folders.

    Links to a folder that contains the link, also through other links, are not followed; ``above`` are the
    real paths of the folders on the way to ``folder``.

    Hidden files, and those in hidden folders such as ``.ipynb_checkpoints``, are left out.
    """
    real = os.path.realpath(folder)
    above |= {real, *map(str, Path(real).parents)}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith('.'):
            continue
        if not entry.is_dir():
            yield entry
        elif not entry.is_symlink() or os.path.realpath(entry.path) not in above:
            yield from walk_files(entry.path, above)


def list_files(folder: str, backend_args: Mapping | None = None) -> list[str]:
    """Return the sorted files of :func:`walk_files` relative to the folder, from any file backend.

    Links to missing files are left out.
    """
    if isinstance(fileio.get_file_backend(folder, backend_args=backend_args), LocalBackend):
        return sorted(os.path.relpath(entry.path, folder) for entry in walk_files(folder) if entry.is_file())
    names = fileio.list_dir_or_file(folder, list_dir=False, recursive=True, backend_args=backend_args)
    return sorted(name for name in names if not any(part.startswith('.') for part in name.split('/')))
