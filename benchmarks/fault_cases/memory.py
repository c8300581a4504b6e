"""Memory of a long training."""

from pathlib import Path

import numpy as np

from . import Fault
from .probed import Trainings, last_line

ITERATIONS = 2000
ALLOWED = 4.0
"""MiB more per 1,000 iterations, in the training and its workers together."""


def slope(notes: list[dict]) -> float:
    """MiB per 1,000 iterations, by a straight line through what was noted in the second half.

    The first two checkpoints still raise the memory, each once, by what copies and files need at a time.
    """
    points = [(note['iteration'], sum(note['memory'].values())) for note in notes if note.get('memory')]
    points = points[len(points) // 2 :]
    iterations, memory = np.array(points).T
    return 1000 * float(np.polyfit(iterations, memory, 1)[0])


def training(folder: Path) -> tuple[str, bool]:
    """2,000 iterations of a tiny model with two workers, logs and four checkpoints."""
    trainings = Trainings(folder)
    result = trainings.train(
        'a',
        probe=dict(memory_interval=50),
        timeout=3600,
        train_cfg__max_iters=ITERATIONS,
        train_dataloader__num_workers=2,
        default_hooks__logger__interval=50,
        default_hooks__checkpoint__interval=500,
    )
    if result.returncode:
        return last_line(result), False
    notes = trainings.notes('a')
    last = [note['memory'] for note in notes if note.get('memory')][-1]
    growth = slope(notes)
    seen = f'{growth:+.2f} MiB per 1,000; at the end {last["process"]:.0f} MiB, workers {last["workers"]:.0f}'
    return seen, growth < ALLOWED


FAULTS = (Fault('memory.training', f'less than {ALLOWED:g} MiB more per 1,000 iterations', training),)
