"""Faults that real runs of the tools meet: a module for each subject, which lists its own ``FAULTS``."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SUBJECTS = ('checkpoints', 'signals', 'numbers', 'memory', 'data', 'config', 'foreign', 'processes', 'load')


@dataclass(frozen=True)
class Fault:
    """One fault and what has to come of it.

    Args:
        name: Short and unique, such as ``checkpoints.killed_while_saving``.
        expected: What has to happen, in a few words.
        run: Injects the fault, with an empty folder to work in. Returns what was seen, in a few words, and
            whether that is what was expected; raising counts as failed.
    """

    name: str
    expected: str
    run: Callable[[Path], tuple[str, bool]]


def all_faults() -> list[Fault]:
    """Collect the faults of all subjects, in their order.

    Raises:
        ValueError: If a name is given twice, or does not begin with its subject.
    """
    faults: list[Fault] = []
    folder = Path(__file__).parent
    for subject in SUBJECTS:
        if not (folder / f'{subject}.py').is_file():
            continue
        own = importlib.import_module(f'{__name__}.{subject}').FAULTS
        for fault in own:
            if not fault.name.startswith(f'{subject}.') or fault.name in {other.name for other in faults}:
                raise ValueError(f'{fault.name}: a fault of {subject} is named {subject}.SOMETHING, once')
            faults.append(fault)
    return faults
