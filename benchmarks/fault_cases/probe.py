"""Hook that records each training iteration and injects faults."""

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

from dpt.registry import HOOKS


@HOOKS.register_module()
class Probe(Hook):
    """Write one line per iteration to ``<out>_rank<r>.jsonl``. Iterations start at 1.

    Args:
        out: Prefix of the file.
        signal_at: Iteration after which the process sends itself ``signal``.
        signal: Name of the signal.
        signal_rank: Rank of the process that sends itself the signal.
        signal_in_validation: Whether to send the signal after the first image of a validation instead.
        signal_while_saving: Send the signal while the checkpoint of this iteration is half written.
        not_finite: Iterations whose images are set to NaN.
        not_finite_rank: Rank of the process whose images are set to NaN.
        memory_interval: Iterations between memory measurements of this process and its workers.
    """

    priority = 'LOWEST'

    def __init__(
        self,
        out: str,
        *,
        signal_at: int = 0,
        signal: str = 'SIGKILL',
        signal_rank: int = 0,
        signal_in_validation: bool = False,
        signal_while_saving: int = 0,
        not_finite: Sequence[int] = (),
        not_finite_rank: int = 0,
        memory_interval: int = 0,
    ) -> None:
        self.out = Path(f'{out}_rank{get_rank()}.jsonl')
        self.signal_at, self.signal = signal_at, signal
        self.signal_rank = signal_rank
        self.signal_in_validation, self.signal_while_saving = signal_in_validation, signal_while_saving
        self.not_finite, self.not_finite_rank = tuple(not_finite), not_finite_rank
        self.memory_interval = memory_interval

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if batch_idx + 1 in self.not_finite and get_rank() == self.not_finite_rank:
            images = data_batch['inputs']
            data_batch['inputs'] = [torch.full_like(x, torch.nan, dtype=torch.float) for x in images]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        done = batch_idx + 1
        files = [Path(sample.img_path).name for sample in data_batch['data_samples']]
        note: dict = dict(iteration=done, loss=outputs['loss'].item().hex(), files=files)
        if self.memory_interval and done % self.memory_interval == 0:
            note['memory'] = _memory()
        self._write(note)
        while done > self.signal_while_saving > 0 and not list(Path(runner.work_dir).glob('.*.partial')):
            time.sleep(0.01)  # until the writing thread has opened the file
        if done == self.signal_at or done > self.signal_while_saving > 0:
            self._send()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if batch_idx == 0:
            self._write(dict(validation=runner.iter))
            if self.signal_in_validation:
                self._send()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if checkpoint['meta']['iter'] == self.signal_while_saving:
            checkpoint['state_dict']['ballast'] = torch.zeros(150_000_000)  # writing 600 MB is slow

    def _send(self) -> None:
        if get_rank() == self.signal_rank:
            os.kill(os.getpid(), signal.Signals[self.signal])
            time.sleep(0.1)

    def _write(self, note: dict) -> None:
        with self.out.open('a') as file:
            file.write(json.dumps(note) + '\n')


def _memory() -> dict[str, float]:
    """Return the resident memory of this process and the private memory of its workers, in MiB."""
    workers = [
        _kib(f'/proc/{child.pid}/smaps_rollup', 'Private') for child in multiprocessing.active_children()
    ]
    return dict(process=_kib('/proc/self/smaps_rollup', 'Rss:') / 1024, workers=sum(workers) / 1024)


def _kib(file: str, key: str) -> int:
    return sum(int(line.split()[1]) for line in Path(file).read_text().splitlines() if line.startswith(key))
