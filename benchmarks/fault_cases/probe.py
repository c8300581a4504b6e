"""A hook that writes down what a training does, an iteration a line, and makes things go wrong in it."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dpt.engine.non_finite import files_of
from dpt.registry import HOOKS


@HOOKS.register_module()
class Probe(Hook):
    """Write ``<out>_rank<r>.jsonl``; the faults are numbered by iterations that are done, from 1.

    Args:
        out: Beginning of the file's name.
        signal_at: Iteration after which the process sends itself ``signal``.
        signal: Its name.
        signal_rank: The process that does.
        repeated: How often it is sent, tenths of a second apart.
        signal_in_validation: Send it after the first image of a validation instead.
        signal_while_saving: Send it when a checkpoint of this iteration is half on the disk.
        not_finite: Iterations whose images are made not finite.
        not_finite_rank: In which process.
        stuck_child: Leave a child behind that cannot be ended but by SIGKILL.
        memory_interval: Iterations between notes of the memory of this process and its workers.
    """

    priority = 'LOWEST'

    def __init__(
        self,
        out: str,
        *,
        signal_at: int = 0,
        signal: str = 'SIGKILL',
        signal_rank: int = 0,
        repeated: int = 1,
        signal_in_validation: bool = False,
        signal_while_saving: int = 0,
        not_finite: Sequence[int] = (),
        not_finite_rank: int = 0,
        stuck_child: bool = False,
        memory_interval: int = 0,
    ) -> None:
        self.out = Path(f'{out}_rank{get_rank()}.jsonl')
        self.signal_at, self.signal = signal_at, signal
        self.signal_rank, self.repeated = signal_rank, repeated
        self.signal_in_validation, self.signal_while_saving = signal_in_validation, signal_while_saving
        self.not_finite, self.not_finite_rank = tuple(not_finite), not_finite_rank
        self.stuck_child, self.memory_interval = stuck_child, memory_interval

    def before_train(self, runner: Runner) -> None:
        self.began = time.monotonic()
        if self.stuck_child:
            multiprocessing.Process(target=_sleep, daemon=True).start()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if batch_idx + 1 in self.not_finite and get_rank() == self.not_finite_rank:
            data_batch['inputs'] = [
                torch.full_like(x, torch.nan, dtype=torch.float) for x in data_batch['inputs']
            ]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        done = batch_idx + 1
        note = dict(
            iteration=done,
            loss=outputs['loss'].item().hex(),
            files=[Path(name).name for name in files_of(data_batch)],
            seconds=time.monotonic() - self.began,
        )
        if self.memory_interval and done % self.memory_interval == 0:
            note['memory'] = _memory()
        self._write(note)
        while done > self.signal_while_saving > 0 and not list(Path(runner.work_dir).glob('.*.partial')):
            time.sleep(0.01)  # the thread that writes is about to
        if done == self.signal_at or done > self.signal_while_saving > 0:
            self._send()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if batch_idx == 0:
            self._write(dict(validation=runner.iter))
            if self.signal_in_validation:
                self._send()

    def _send(self) -> None:
        if get_rank() == self.signal_rank:
            for _ in range(self.repeated):
                os.kill(os.getpid(), signal.Signals[self.signal])
                time.sleep(0.1)

    def _write(self, note: dict) -> None:
        with self.out.open('a') as file:
            file.write(json.dumps(note) + '\n')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if checkpoint['meta']['iter'] == self.signal_while_saving:
            checkpoint['state_dict']['ballast'] = torch.zeros(150_000_000)  # 600 MB: time to be met in


def _sleep() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(1000)


def _memory() -> dict[str, float]:
    """Resident memory in MiB: that of the process, and that which its workers do not share with it."""
    workers = [
        _kib(f'/proc/{child.pid}/smaps_rollup', 'Private') for child in multiprocessing.active_children()
    ]
    return dict(process=_kib('/proc/self/smaps_rollup', 'Rss:') / 1024, workers=sum(workers) / 1024)


def _kib(file: str, key: str) -> int:
    return sum(int(line.split()[1]) for line in Path(file).read_text().splitlines() if line.startswith(key))
