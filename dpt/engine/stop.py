"""Stop a training on a signal: finish the step and save a checkpoint to resume from."""

import atexit
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed

from dpt.engine.checkpointing import CheckpointHook, has_updated
from dpt.engine.distributed import cpu_group
from dpt.registry import HOOKS

STOPPED = 75
"""Exit status of a training that a signal stopped and ``--resume`` continues (EX_TEMPFAIL)."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_PARENT = os.getppid()
STATUS_FILE = 'DPT_STATUS_FILE'
"""Environment variable with the file for the exit status, which ``dpt/torchrun.py`` returns."""
VALIDATION_INTERVAL = 10
"""Batches of a validation after which processes agree, so that fast ones rarely wait for slow ones."""
_SAME_SIGNAL = 1.0  # seconds; on Ctrl-C both the terminal and torchrun send SIGINT


class ValidationStopped(Exception):  # noqa: N818 (not an error)
    """A signal arrived during validation."""


def begin_worker(then: Callable[[int], None] | None, worker: int) -> None:
    """Make a worker of a data loader ignore the stop signals.

    Slurm and the terminal signal every process of a job, but the current step still needs its workers.
    Workers exit with their main process.

    Args:
        then: Original ``worker_init_fn`` of the loader.
        worker: Index of the worker.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if then is not None:
        then(worker)


def kill_workers_at_exit() -> None:
    """Kill data loader workers when Python exits.

    multiprocessing sends SIGTERM, which workers ignore, and would then wait for a worker that hangs.
    """
    atexit.unregister(_kill_workers)
    atexit.register(_kill_workers)


def _kill_workers() -> None:
    if hasattr(signal, 'SIGCHLD'):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises an error for a killed worker
    for worker in multiprocessing.active_children():
        if worker.daemon:  # workers are daemons; other processes belong to the user
            worker.kill()


class StopSignals:
    """Records the first SIGTERM, SIGINT or SIGUSR1; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._process = os.getpid()
        self._time = 0.0
        self._before: dict[int, object] = {}

    def install(self) -> None:
        """Install the handlers, if this is the main thread; other threads cannot."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}

    def restore(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a newly forked worker
            return
        if self.received is None:
            self.received, self._time = signal.Signals(number), time.monotonic()
            if 'TORCHELASTIC_RUN_ID' not in os.environ:
                self._restore_default_handlers()
        elif time.monotonic() - self._time > _SAME_SIGNAL:
            self._restore_default_handlers()
            os.kill(os.getpid(), number)

    @property
    def reason(self) -> str | None:
        """Why this process has to stop: the signal, or that torchrun was killed; ``None`` if it need not."""
        if self.received is not None:
            return self.received.name
        if 'TORCHELASTIC_RUN_ID' in os.environ and os.getppid() != _PARENT:
            return 'torchrun has ended'
        return None

    @staticmethod
    def _restore_default_handlers() -> None:
        # A Python handler would run only after the current operation.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)


class Agreement:
    """Makes all processes stop after the same iteration when one of them received a signal.

    The flags are reduced on the CPUs (gloo) during the next step, so that no GPU waits for them.
    """

    def __init__(self) -> None:
        self._group = cpu_group()
        self._asked: tuple[torch.Tensor, distributed.Work] | None = None

    def after_step(self, stop: bool) -> bool:
        """Return whether all processes stop now, because one passed ``stop=True`` in the previous call."""
        if self._group is None:
            return stop
        agreed = self.finish()
        answer = torch.tensor([int(stop)])
        work = distributed.all_reduce(answer, distributed.ReduceOp.MAX, self._group, async_op=True)
        self._asked = (answer, work)
        return agreed

    def wait_for_all(self) -> None:
        """Wait until every process has called this method."""
        if self._group is not None:
            distributed.barrier(self._group)

    def finish(self) -> bool:
        """Wait for the pending reduction; return whether all processes stop."""
        asked, self._asked = self._asked, None
        if asked is None:
            return False
        asked[1].wait()
        return bool(asked[0].item())


@HOOKS.register_module()
class StopSignalHook(Hook):
    """Stop the training on SIGTERM, SIGINT or SIGUSR1 (Slurm's warning) after finishing the step and saving.

    All processes stop after the same iteration. A validation is interrupted, and the resumed run repeats it.
    A second signal ends the process at once, without saving.
    """

    priority = 'LOWEST'  # after the regular checkpoint of the iteration

    def __init__(self) -> None:
        self.signals = StopSignals()
        self.stopped = self.saved = False
        self._agreed = False
        self._agreement: Agreement | None = None  # set during a training

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers before the data loaders start their workers."""
        self._agreement = Agreement()
        kill_workers_at_exit()
        for loader in (runner.train_dataloader, runner.val_dataloader if runner.val_loop else None):
            if loader is not None:
                loader.worker_init_fn = partial(begin_worker, loader.worker_init_fn)
        self.signals.install()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Stop if a process received a signal, unless gradients are still being accumulated."""
        if self._agreement is not None and self._agreement.after_step(self.signals.reason is not None):
            self._agreed = True
        if self._agreed and has_updated(runner.optim_wrapper):
            self.stopped = runner.train_loop.stop_training = True

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: object = None
    ) -> None:
        """Interrupt the validation if a process received a signal.

        Raises:
            ValidationStopped: If so; the training loop catches it.
        """
        loader = runner.val_dataloader
        if self._agreement is None or (get_world_size() > 1 and batch_idx % VALIDATION_INTERVAL):
            return
        if batch_idx >= len(loader.dataset) // (get_world_size() * (loader.batch_size or 1)):
            return  # not every process has this batch
        if self._agreement.after_step(self.signals.reason is not None):
            self.stopped = runner.train_loop.stop_training = True
            raise ValidationStopped

    def after_train(self, runner: Runner) -> None:
        """Save a checkpoint if a signal stopped the training."""
        if self._agreement is not None:
            self._agreement.finish()
        if not self.stopped:
            return
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                hook.save(runner)
                self.saved |= hook.save_optimizer
        if self._agreement is not None:
            # torchrun kills the process that is still writing if another exits with a non-zero status.
            self._agreement.wait_for_all()
        reason = self.signals.reason or 'a signal to another process'
        after = f'{reason}: stopped after iteration {runner.iter}'
        if self.saved:
            runner.logger.warning(f'{after}, saved; continue with --resume')
        else:
            runner.logger.warning(
                f'{after}; no resumable checkpoint was saved: set default_hooks.checkpoint, with '
                'save_optimizer=True'
            )

    def close(self) -> None:
        """Restore the previous signal handlers."""
        self._agreement = None
        self.signals.restore()

    def after_run(self, runner: Runner) -> None:
        """Restore the previous signal handlers."""
        self.close()


def stop_status(runner: Runner) -> int:
    """Return the exit status of a training: 0, or ``STOPPED`` after a signal, or 1 if that saved nothing."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, StopSignalHook) and hook.stopped]
    if not hooks:
        return 0
    status = STOPPED if all(hook.saved for hook in hooks) else 1
    if STATUS_FILE in os.environ:
        Path(os.environ[STATUS_FILE]).write_text(str(status))
    return status
