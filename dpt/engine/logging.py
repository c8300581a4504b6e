"""Training log: log lines, losses read from the device, a shorter console output."""

import logging
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import LogProcessor as _LogProcessor
from mmengine.runner import Runner
from torch import Tensor

from dpt.registry import HOOKS, LOG_PROCESSORS

TABLES = ('System environment:', 'Config:\n', 'Hooks will be executed in the following order')
"""Prefixes of mmengine's messages that are hundreds of lines long."""


def is_no_table(record: logging.LogRecord) -> bool:
    """Return False for :data:`TABLES`."""
    return not str(record.msg).lstrip('\n-').startswith(TABLES)


HISTORY = 1000
"""Number of values to keep for each scalar, because mmengine copies all values to add one."""


def peak_host_memory_mib() -> int:
    """Return the peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@LOG_PROCESSORS.register_module()
class LogProcessor(_LogProcessor):
    """mmengine's log processor with images/s, the share of time spent waiting for data, and a better ETA.

    The ETA adds the average wall-clock time of an iteration, including checkpoints, and that of a validation,
    each for those still to come. Until a validation has been timed, the line says how many the ETA leaves
    out. On a CPU, the memory is the peak resident memory of the process.

    Attributes:
        read_losses: Function that fetches the losses from the GPU, set by :class:`RuntimeInfoHook`.
    """

    read_losses: Callable[[Runner], None] | None = None
    _began: tuple[float, int] | None = None

    def _update_eta(self, runner: Runner) -> int:
        """Set ``eta`` in the message hub to the remaining seconds.

        Returns:
            The number of coming validations that it leaves out, because none has been timed.
        """
        hub = runner.message_hub
        loop: Any = getattr(runner, 'train_loop', None)
        timed = getattr(loop, 'validation_seconds', [])
        coming = loop.remaining_validations() if hasattr(loop, 'remaining_validations') else 0
        now, iteration = time.time() - sum(timed), runner.iter + 1
        if self._began is None:
            # At the first call, after the first interval, keep mmengine's estimate.
            self._began = (now, iteration)
        began, first = self._began
        if iteration > first:
            hub.update_info('eta', (now - began) / (iteration - first) * (runner.max_iters - iteration))
        if timed and 'eta' in hub.runtime_info:
            hub.update_info('eta', hub.get_info('eta') + sum(timed) / len(timed) * coming)
        return 0 if timed else coming

    def _forget(self, runner: Runner) -> None:
        """Drop values that no log line averages over; a ``'global'`` window averages over all."""
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
        """Return the scalars of an iteration as a dict, and the log line."""
        if mode == 'train':
            if self.read_losses is not None:
                self.read_losses(runner)
            left_out = self._update_eta(runner)
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train':
            return tag, line
        self._forget(runner)
        prefix = 'train/' if self.log_with_hierarchy else ''
        if 'eta' in runner.message_hub.runtime_info:
            tag['eta'] = runner.message_hub.get_info('eta')
            if left_out:
                line += f'  not in eta: {left_out} validation{"s" * (left_out > 1)}'
        seconds, waiting = tag.get(f'{prefix}time', 0.0), tag.get(f'{prefix}data_time', 0.0)
        if seconds:
            images = (runner.train_dataloader.batch_size or 1) * get_world_size()
            tag[f'{prefix}images_per_s'] = images / seconds
            tag[f'{prefix}data_wait'] = waiting / seconds
            line += f'  images/s: {images / seconds:.2f}'
            line += f'  data wait: {waiting / seconds:.0%}'
        if 'memory' in tag:  # GPU memory, from mmengine
            line = line.replace(f'memory: {tag["memory"]}', f'memory: {tag["memory"]} MiB')
        else:
            tag['memory'] = peak_host_memory_mib()
            line += f'  memory: {tag["memory"]} MiB'
        return tag, line


MOST_UNREAD = 1000
"""Maximum number of iterations whose losses stay on the device."""


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """mmengine's hook without a GPU synchronisation in each iteration.

    Losses stay on the GPU until a line is logged, a validation begins or the training ends; then all are read
    at once. The values and the averages in the log do not change. A hook that needs the losses of each
    iteration in the message hub must call :meth:`read` first, or use its ``outputs``.
    """

    def __init__(self) -> None:
        self._unread: list[dict[str, Any]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Store the losses of an iteration; read them at once if they are on the CPU."""
        if outputs is None:
            return
        outputs = {**outputs, **_scalars(runner.optim_wrapper)}
        self._unread.append({name: _kept(value) for name, value in outputs.items()})
        asked_for = isinstance(runner.log_processor, LogProcessor) and len(self._unread) < MOST_UNREAD
        if not (asked_for and any(map(_is_waited_for, outputs.values()))):
            self.read(runner)

    def read(self, runner: Runner) -> None:
        """Write the losses of all iterations since the last call into the message hub."""
        unread, self._unread = self._unread, []
        tensors = [value for outputs in unread for value in outputs.values() if isinstance(value, Tensor)]
        # A single copy to the host; float32 is exact in float64.
        numbers = iter(torch.stack([one.reshape(()).double() for one in tensors]).tolist() if tensors else ())
        for outputs in unread:
            for name, value in outputs.items():
                number = next(numbers) if isinstance(value, Tensor) else value
                runner.message_hub.update_scalar(f'train/{name}', number)

    def before_train(self, runner: Runner) -> None:
        """Make the log processor read the losses before each line."""
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


def _scalars(wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, Any]:
    """Return the values that the optimiser wrappers want logged."""
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return {name: value for one in wrappers for name, value in getattr(one, 'scalars', {}).items()}


def _kept(value: Any) -> Any:
    """Return a loss without its graph, as a number if it is on the CPU."""
    if not isinstance(value, Tensor):
        return value
    return value.detach() if _is_waited_for(value) else value.item()


def _is_waited_for(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type != 'cpu'
