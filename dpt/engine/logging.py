"""What a training reports: the line of the log, losses read from the device, less on the console."""

import logging
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import LogProcessor as _LogProcessor
from mmengine.runner import Runner
from torch import Tensor

from dpt.registry import HOOKS, LOG_PROCESSORS

TABLES = ('System environment:', 'Config:\n', 'Hooks will be executed in the following order')
"""Beginnings of mmengine's messages of hundreds of lines."""


def is_no_table(record: logging.LogRecord) -> bool:
    """Whether a log record is none of :data:`TABLES`."""
    return not str(record.msg).lstrip('\n-').startswith(TABLES)


HISTORY = 1000
"""Values to keep of each scalar: mmengine copies all of them whenever it adds one."""


def peak_host_memory_mib() -> int:
    """Return the largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@LOG_PROCESSORS.register_module()
class LogProcessor(_LogProcessor):
    """mmengine's log line with images/s, the share of time spent waiting for data, and the time left.

    The time left is the wall-clock time of an iteration so far, validation and checkpoints included, times
    the iterations that remain. On a CPU the memory is the process's.

    Attributes:
        read_losses: What fetches losses that are still on a GPU, from
            :class:`RuntimeInfoHook`.
    """

    read_losses: Callable[[Runner], None] | None = None
    _began: tuple[float, int] | None = None

    def _update_eta(self, runner: Runner) -> None:
        now, iteration = time.time(), runner.iter + 1
        if self._began is None:
            # The first call comes after the first interval; what came before is the timer's own estimate.
            self._began = (now, iteration)
            return
        began, first = self._began
        if iteration > first:
            eta = (now - began) / (iteration - first) * (runner.max_iters - iteration)
            runner.message_hub.update_info('eta', eta)

    def _forget(self, runner: Runner) -> None:
        """Keep as many values of the training as any line averages over; ``'global'`` averages over all."""
        windows = [self.window_size, *(one.get('window_size', 1) for one in self.custom_cfg)]
        if not all(isinstance(window, int) for window in windows):
            return
        keep = max(HISTORY, *windows)
        scalars = runner.message_hub.log_scalars
        for name, buffer in scalars.items():
            values, counts = buffer.data
            if name.startswith('train/') and len(values) > keep:
                scalars[name] = HistoryBuffer(values[-keep:], counts[-keep:])

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Return what is logged after an iteration: a dict for the back ends, and the line."""
        if mode == 'train':
            if self.read_losses is not None:
                self.read_losses(runner)
            self._update_eta(runner)
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train':
            return tag, line
        self._forget(runner)
        prefix = 'train/' if self.log_with_hierarchy else ''
        seconds, waiting = tag.get(f'{prefix}time', 0.0), tag.get(f'{prefix}data_time', 0.0)
        if seconds:
            images = (runner.train_dataloader.batch_size or 1) * get_world_size()
            tag[f'{prefix}images_per_s'] = images / seconds
            tag[f'{prefix}data_wait'] = waiting / seconds
            line += f'  images/s: {images / seconds:.2f}'
            line += f'  data wait: {waiting / seconds:.0%}'
        if 'memory' in tag:  # the engine's own, of the GPU
            line = line.replace(f'memory: {tag["memory"]}', f'memory: {tag["memory"]} MiB')
        else:
            tag['memory'] = peak_host_memory_mib()
            line += f'  memory: {tag["memory"]} MiB'
        return tag, line


MOST_UNREAD = 1000
"""Iterations whose losses may stay on the device unread."""


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """mmengine's hook without its wait for the GPU in each iteration.

    Losses on a GPU stay there until a line is logged, a validation begins or the training ends; then all are
    read at once. To read one earlier, the host would have to wait until the GPU has finished the iteration
    and runs out of work. The values, and what the log averages over, are the same. Until they are read, the
    message hub does not have them: a hook that needs them in each iteration calls :meth:`read` first, or uses
    its ``outputs``.
    """

    def __init__(self) -> None:
        self._unread: list[dict[str, Any]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Keep the losses of an iteration, or read them if they are on the CPU."""
        if outputs is None:
            return
        self._unread.append({name: _kept(value) for name, value in outputs.items()})
        asked_for = isinstance(runner.log_processor, LogProcessor) and len(self._unread) < MOST_UNREAD
        if not (asked_for and any(map(_is_waited_for, outputs.values()))):
            self.read(runner)

    def read(self, runner: Runner) -> None:
        """Write the losses of all iterations since the last call into the message hub."""
        unread, self._unread = self._unread, []
        tensors = [value for outputs in unread for value in outputs.values() if isinstance(value, Tensor)]
        # One copy for all; single precision is exact in double.
        numbers = iter(torch.stack([one.reshape(()).double() for one in tensors]).tolist() if tensors else ())
        for outputs in unread:
            for name, value in outputs.items():
                number = next(numbers) if isinstance(value, Tensor) else value
                runner.message_hub.update_scalar(f'train/{name}', number)

    def before_train(self, runner: Runner) -> None:
        """Let the log processor read the losses before each line."""
        super().before_train(runner)
        if isinstance(runner.log_processor, LogProcessor):
            runner.log_processor.read_losses = self.read

    def before_val(self, runner: Runner) -> None:
        """Read the remaining losses."""
        self.read(runner)
        super().before_val(runner)

    def after_train(self, runner: Runner) -> None:
        """Read the remaining losses."""
        self.read(runner)
        super().after_train(runner)


def _kept(value: Any) -> Any:
    """Return a loss without its graph, as a number if it is on the CPU."""
    if not isinstance(value, Tensor):
        return value
    return value.detach() if _is_waited_for(value) else value.item()


def _is_waited_for(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type != 'cpu'
