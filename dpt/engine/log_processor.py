"""The line of the training log."""

import resource
import time
from collections.abc import Callable

from mmengine.dist import get_world_size
from mmengine.logging import HistoryBuffer
from mmengine.runner import LogProcessor as _LogProcessor
from mmengine.runner import Runner

from dpt.registry import LOG_PROCESSORS

HISTORY = 1000
"""Values of a training that are kept: the engine copies all of them for each new one."""


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
            :class:`dpt.engine.runtime_info.RuntimeInfoHook`.
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
