"""Checkpoint files of a run: written whole, verified before they are trusted, found again."""

import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from dpt.checkpoints.write import PARTIAL, whole_file, write_whole

POINTER = 'last_checkpoint'
"""Name of the file in the work directory that names the newest checkpoint, relative to that directory."""
_NUMBERED = re.compile(r'(?!best_).*?(\d+)\.pth')


class Resumable(NamedTuple):
    """What a run goes on from, and what had to be passed over to find it."""

    path: str
    passed_over: tuple[str, ...] = ()


def write_checkpoint(content: Mapping, path: Path) -> None:
    """Write a checkpoint: whenever this ends, ``path`` is complete and on the disk, or as it was.

    The file is a zip archive in which torch keeps a CRC-32 of every tensor and of the rest, so that
    ``python -m zipfile -t FILE`` verifies it, and so does :func:`damage`.

    Raises:
        OSError: If it cannot be written, with what to do.
    """
    try:
        with whole_file(path) as file:
            torch.save(dict(content), file)
    except (OSError, RuntimeError) as error:
        # Where the disk is full, torch complains about its archive, on top of the error that says why.
        cause = error if isinstance(error, OSError) else error.__context__ or error
        free = shutil.disk_usage(path.parent).free >> 20
        raise OSError(
            f'{path}: the checkpoint could not be written ({cause}; {free} MiB are free there). '
            'Those before it are untouched: make room, then go on with --resume'
        ) from error


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint file, or ``None``; every byte that is loaded is verified."""
    if path.stat().st_size == 0:
        return 'it is empty'
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return None  # none of ours, and possibly endless: who loads it refuses it by name
            if broken := archive.testzip():
                return f'the checksum of {broken} in it is wrong'
        # Torch's own reader looks at more of the directory; the tensors are not read again.
        torch.load(path, map_location='meta', mmap=True, weights_only=True)
    except pickle.UnpicklingError:
        pass  # whole, but it asks for more than tensors: who loads it refuses it by name
    except Exception as error:  # a damaged archive can fail in any way
        return f'it is cut short or damaged ({str(error).split(". ")[0]})'
    return None


def write_pointer(work_dir: Path, checkpoint: Path) -> None:
    """Let the work directory name its newest checkpoint; the name survives a move of the directory."""
    write_whole(os.path.relpath(checkpoint, work_dir).encode(), work_dir / POINTER)


def remove_leftovers(folder: Path) -> None:
    """Remove what a run that was killed while it wrote has left half-written."""
    for partial in folder.glob(f'.*.pth.*{PARTIAL}'):
        partial.unlink(missing_ok=True)


def _pointed(work_dir: Path) -> Path | None:
    pointer = work_dir / POINTER
    if not pointer.is_file():
        return None
    named = Path(pointer.read_text(encoding='utf-8').strip())
    # An absolute path is mmengine's; the folder may have moved since.
    moved = work_dir / (named.name if named.is_absolute() else named)
    return moved if moved.is_file() or not named.is_absolute() else named


def _candidates(work_dir: Path) -> list[Path]:
    """The checkpoint that the pointer names, then the others, newest iteration first."""
    pointed = _pointed(work_dir)
    folder = pointed.parent if pointed is not None else work_dir
    numbered = [(_NUMBERED.fullmatch(path.name), path) for path in folder.glob('*.pth')]
    others = sorted(((int(match[1]), path) for match, path in numbered if match), reverse=True)
    first = [pointed] if pointed is not None else []
    return first + [path for _, path in others if path != pointed]


def find_resume(work_dir: str, resume: str = 'auto') -> Resumable:
    """Return the checkpoint to resume from, verified.

    Args:
        work_dir: Work directory whose newest valid checkpoint ``'auto'`` means.
        resume: ``'auto'`` or a path.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the given one, or each of those that there are, is damaged.
    """
    if resume != 'auto':
        if not Path(resume).is_file():
            raise FileNotFoundError(f'--resume {resume}: there is no such checkpoint')
        if fault := damage(Path(resume)):
            raise ValueError(f'--resume {resume}: {fault}; --resume auto takes the newest valid one')
        return Resumable(resume)
    passed_over: list[str] = []
    for path in _candidates(Path(work_dir)):
        fault = damage(path) if path.is_file() else 'it is not there'
        if fault is None:
            return Resumable(str(path), tuple(passed_over))
        passed_over.append(f'{path}: {fault}')
    if passed_over:
        raise ValueError('--resume: no valid checkpoint: ' + '; '.join(passed_over))
    raise FileNotFoundError(
        f'--resume: there is no checkpoint in {work_dir}, so there is nothing to resume; '
        'give --work-dir or the path of a checkpoint, or start without --resume'
    )
