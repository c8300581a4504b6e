"""Signals that ask a training to stop: it finishes the step, saves a checkpoint and can be resumed."""

import atexit
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed

from dpt.engine.checkpointing import CheckpointHook, has_updated
from dpt.registry import HOOKS

STOPPED = 75
"""Exit status of a training that a signal has stopped and ``--resume`` goes on with (EX_TEMPFAIL)."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_SAME_SIGNAL = 1.0  # seconds; Ctrl-C reaches a process of torchrun from the terminal and from torchrun


class ValidationStopped(Exception):  # noqa: N818 (not an error)
    """A signal arrived during validation."""


def begin_worker(then: Callable[[int], None] | None, worker: int) -> None:
    """Let a worker of a data loader ignore the signals, which are for the run.

    Slurm and the terminal signal every process of a job. A worker that ended would take the step that is to
    be finished with it. Workers end with their main process.

    Args:
        then: The loader's own ``worker_init_fn``.
        worker: Index of the worker.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if then is not None:
        then(worker)


def kill_workers_at_exit() -> None:
    """Kill workers when Python exits.

    multiprocessing sends them SIGTERM, which they ignore, and would then wait for one that hangs in reading.
    """
    atexit.unregister(_kill_workers)
    atexit.register(_kill_workers)


def _kill_workers() -> None:
    if hasattr(signal, 'SIGCHLD'):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for each worker
    for worker in multiprocessing.active_children():
        if worker.daemon:  # workers are daemons; other processes are the user's
            worker.kill()


class StopSignals:
    """Records the first SIGTERM, SIGINT or SIGUSR1; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._process = os.getpid()
        self._time = 0.0
        self._before: dict[int, object] = {}

    def install(self) -> None:
        """Catch the signals from now on, if this is the main thread: others cannot."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}

    def restore(self) -> None:
        """Restore the handlers of before."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that has just been forked
            return
        if self.received is None:
            self.received, self._time = signal.Signals(number), time.monotonic()
            if 'TORCHELASTIC_RUN_ID' not in os.environ:
                self._end_at_the_next()
        elif time.monotonic() - self._time > _SAME_SIGNAL:
            self._end_at_the_next()
            os.kill(os.getpid(), number)

    @staticmethod
    def _end_at_the_next() -> None:
        # A Python handler would run only after the current operation.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)


class Agreement:
    """Lets all processes stop after the same iteration when one of them was asked to.

    The answers are reduced over the CPUs (gloo) during the next step, so that no device waits for them.
    """

    def __init__(self) -> None:
        self._group = distributed.new_group(backend='gloo') if get_world_size() > 1 else None
        self._asked: tuple[torch.Tensor, distributed.Work] | None = None

    def after_step(self, stop: bool) -> bool:
        """Whether all processes stop now, because one of them answered ``True`` one call ago."""
        if self._group is None:
            return stop
        agreed = self.finish()
        answer = torch.tensor([int(stop)])
        work = distributed.all_reduce(answer, distributed.ReduceOp.MAX, self._group, async_op=True)
        self._asked = (answer, work)
        return agreed

    def now(self, stop: bool) -> bool:
        """Whether all processes stop now, because one of them answers ``True`` in this call."""
        if self._group is None:
            return stop
        answer = torch.tensor([int(stop)])
        distributed.all_reduce(answer, distributed.ReduceOp.MAX, self._group)
        return bool(answer.item())

    def wait_for_all(self) -> None:
        """Wait until every process calls this."""
        if self._group is not None:
            distributed.barrier(self._group)

    def finish(self) -> bool:
        """Wait for the last answers; return whether all stop."""
        asked, self._asked = self._asked, None
        if asked is None:
            return False
        asked[1].wait()
        return bool(asked[0].item())


@HOOKS.register_module()
class StopSignalHook(Hook):
    """On SIGTERM, SIGINT or SIGUSR1 (Slurm's warning): finish the step, save a checkpoint, end the training.

    All processes stop after the same iteration. A validation is interrupted, and repeated by the resumed run.
    A second signal ends the process at once, with nothing saved.
    """

    priority = 'LOWEST'  # after the checkpoint that this iteration may be due

    def __init__(self) -> None:
        self.signals = StopSignals()
        self.stopped = self.saved = False
        self._agreed = False
        self._agreement: Agreement | None = None  # where a training runs

    def before_train(self, runner: Runner) -> None:
        """Start to listen, before the workers of the loaders are started."""
        self._agreement = Agreement()
        kill_workers_at_exit()
        for loader in (runner.train_dataloader, runner.val_dataloader if runner.val_loop else None):
            if loader is not None:
                loader.worker_init_fn = partial(begin_worker, loader.worker_init_fn)
        self.signals.install()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Stop if a process was asked to, and no gradients are accumulated for the next iteration."""
        if self._agreement is not None and self._agreement.after_step(self.signals.received is not None):
            self._agreed = True
        if self._agreed and has_updated(runner.optim_wrapper):
            self.stopped = runner.train_loop.stop_training = True

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: object = None
    ) -> None:
        """Interrupt the validation if a process was asked to stop.

        Raises:
            ValidationStopped: For the training loop.
        """
        loader = runner.val_dataloader
        if batch_idx >= len(loader.dataset) // (get_world_size() * (loader.batch_size or 1)):
            return  # not every process has this batch
        if self._agreement is not None and self._agreement.now(self.signals.received is not None):
            self.stopped = runner.train_loop.stop_training = True
            raise ValidationStopped

    def after_train(self, runner: Runner) -> None:
        """Save, if this is why the training ends."""
        if self._agreement is not None:
            self._agreement.finish()
        if not self.stopped:
            return
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                hook.save(runner)
                self.saved |= hook.save_optimizer
        if self._agreement is not None:
            # When one process exits with another status than 0, torchrun kills the one that still writes.
            self._agreement.wait_for_all()
        name = self.signals.received.name if self.signals.received else 'a signal to another process'
        after = f'{name}: stopped after iteration {runner.iter}'
        if self.saved:
            runner.logger.warning(f'{after}, saved; continue with --resume')
        else:
            runner.logger.warning(
                f'{after}; nothing was saved that can be resumed: see default_hooks.checkpoint'
            )

    def close(self) -> None:
        """Stop listening."""
        self._agreement = None
        self.signals.restore()

    def after_run(self, runner: Runner) -> None:
        """Stop listening."""
        self.close()


def stop_status(runner: Runner) -> int:
    """Return the exit status of a training: 0, or ``STOPPED`` after a signal, or 1 if that saved nothing."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, StopSignalHook) and hook.stopped]
    return 0 if not hooks else STOPPED if all(hook.saved for hook in hooks) else 1
