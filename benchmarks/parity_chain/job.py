"""Settings of a run, and the exchange of arrays between the two sides through a folder."""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass
class Job:
    """Settings of one run.

    Args:
        folder: Folder for exchanging files.
        config: Config file of dpt; the peer uses its own.
        links: Names of the links to run.
        quick: Whether to always use the small model instead of ViT-B.
        data_roots: Folders of images and masks in ADE20K's layout, by name.
        threads: Number of threads per side.
        draws: Number of random draws of the training pipeline from each data set.
    """

    folder: str
    config: str
    links: list[str]
    quick: bool = False
    data_roots: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    draws: int = 200

    def write(self) -> Path:
        """Write the settings to a file for the peer and return its path."""
        path = Path(self.folder) / 'job.json'
        path.write_text(json.dumps(asdict(self), indent=1), encoding='utf-8')
        return path

    @classmethod
    def read(cls, path: str) -> 'Job':
        """Read a file written by :meth:`write`."""
        return cls(**json.loads(Path(path).read_text(encoding='utf-8')))

    def arrays_path(self, link: str, case: str) -> Path:
        """Return the path of the peer's arrays of a case."""
        return Path(self.folder) / f'{link}.{case}.npz'

    def weights_path(self, name: str) -> Path:
        """Return the path of the peer's weights."""
        return Path(self.folder) / f'{name}.pth'


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file and rename it to ``path`` when it is complete."""
    partial = path.with_name(f'partial-{path.name}')
    write(partial)
    os.replace(partial, path)


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays to a file for the other side."""
    write_whole(path, lambda partial: np.savez(partial, **arrays))


def wait_for(path: Path, alive: Callable[[], bool] = lambda: True) -> Path:
    """Wait until the other side has written a file.

    Raises:
        RuntimeError: If the other side ends without writing it.
    """
    while not path.exists():
        if not alive() and not path.exists():
            raise RuntimeError(f'the other side ended before writing {path.name}')
        time.sleep(0.05)
    return path


def take_arrays(path: Path, alive: Callable[[], bool] = lambda: True) -> dict[str, np.ndarray]:
    """Wait for a file of arrays from the other side, read it and delete it."""
    with np.load(wait_for(path, alive), allow_pickle=False) as file:
        arrays = dict(file)
    path.unlink()
    return arrays
