"""Trainings of a tiny model that a probe watches and disturbs, and what they are compared by."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch

from . import runs

PROBE = """
custom_imports = dict(imports=['fault_cases.probe'])
custom_hooks = [dict(type='Probe', out={out!r})]
model = dict(backbone=dict(drop_rate=0.1), decode_head=dict(dropout_ratio=0.1))
train_cfg = dict(max_iters=8, val_interval=1000)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=4))
"""


class Trainings:
    """Runs of one tiny config in a folder, each in a work directory of its own.

    Args:
        folder: For the data, the config and the work directories.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tiny = runs.tiny_config(folder)
        self.config = folder / 'probed.py'
        self.config.write_text(f'_base_ = [{str(tiny)!r}]\n' + PROBE.format(out='set below'))
        path = os.pathsep.join(map(str, (runs.REPOSITORY, runs.REPOSITORY / 'benchmarks')))
        self.environment = dict(PYTHONPATH=path)

    def arguments(self, name: str, *flags: object, probe: Mapping | None = None, **options: object) -> list:
        """The command line: the run's name, flags of the tool, of the probe, and of the config (``a__b``)."""
        settings = {key.replace('__', '.'): value for key, value in options.items()}
        settings['custom_hooks.0.out'] = self.folder / name
        settings |= {f'custom_hooks.0.{key}': value for key, value in (probe or {}).items()}
        pairs = [f'{key}={value}' for key, value in settings.items()]
        return [
            'tools/train.py',
            self.config,
            '--work-dir',
            self.work_dir(name),
            *flags,
            '--cfg-options',
            *pairs,
        ]

    def work_dir(self, name: str) -> Path:
        """Where a run writes."""
        return self.folder / f'run_{name}'

    def train(
        self,
        name: str,
        *flags: object,
        processes: int = 1,
        probe: Mapping | None = None,
        timeout: float = runs.TIMEOUT,
        **options: object,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end, whatever it is."""
        arguments = self.arguments(name, *flags, probe=probe, **options)
        return runs.run_tool(*arguments, processes=processes, env=self.environment, timeout=timeout)

    def notes(self, name: str, rank: int = 0) -> list[dict]:
        """What the probe has written in a run and those that went on from it."""
        file = self.folder / f'{name}_rank{rank}.jsonl'
        return [json.loads(line) for line in file.read_text().splitlines()]

    def steps(self, name: str, rank: int = 0) -> dict[int, tuple[str, list[str]]]:
        """Loss, every bit of it, and file names of each iteration; of the last time it was done."""
        notes = [note for note in self.notes(name, rank) if 'iteration' in note]
        return {note['iteration']: (note['loss'], note['files']) for note in notes}

    def checkpoint(self, name: str, iteration: int) -> dict:
        """A checkpoint of a run."""
        return torch.load(self.work_dir(name) / f'iter_{iteration}.pth', weights_only=True)

    def files(self, name: str) -> list[str]:
        """The names of the checkpoints of a run and of what is left of others, hidden ones included."""
        return sorted(path.name for path in self.work_dir(name).iterdir() if '.pth' in path.name)


def same(one: object, other: object) -> bool:
    """Whether two checkpoints' entries are equal bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def same_training(one: dict, other: dict) -> bool:
    """Whether two checkpoints hold the same weights, optimiser and schedules."""
    return all(same(one[key], other[key]) for key in ('state_dict', 'optimizer', 'param_schedulers'))


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    """What a run that failed unexpectedly has to say."""
    return f'status {result.returncode}: ' + ' '.join((result.stderr or result.stdout).split())[-300:]
