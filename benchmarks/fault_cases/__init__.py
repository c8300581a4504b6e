"""Faults to inject into real runs of the tools; each module lists its faults in ``FAULTS``."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODULES = ('trainings', 'processes', 'load')


@dataclass(frozen=True)
class Fault:
    """One fault and its expected outcome.

    Args:
        name: Unique name, ``SUBJECT.NAME``, such as ``checkpoints.killed_while_saving``.
        expected: Short description of the expected outcome.
        run: Injects the fault in an empty folder. Returns a short description of the outcome, and whether it
            was expected; an exception counts as a failure.
    """

    name: str
    expected: str
    run: Callable[[Path], tuple[str, bool]]


def all_faults() -> list[Fault]:
    """Return the faults of all modules."""
    return [fault for name in MODULES for fault in importlib.import_module(f'{__name__}.{name}').FAULTS]
