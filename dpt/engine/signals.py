"""Signals that ask a training to stop: the step is finished, a checkpoint saved, and the run can go on."""

import os
import signal
import threading
import time
from functools import partial
from types import FrameType

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed

from dpt.engine.checkpoint_hook import CheckpointHook
from dpt.engine.dataloaders import begin_worker
from dpt.engine.exit import kill_workers_at_exit
from dpt.registry import HOOKS

STOPPED = 75
"""Exit status of a training that a signal has stopped and ``--resume`` goes on with (EX_TEMPFAIL)."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_SAME_SIGNAL = 1.0  # seconds; Ctrl-C reaches a process of torchrun from the terminal and from torchrun


class ValidationStopped(Exception):  # noqa: N818 (no error)
    """A signal has come during validation."""


class StopSignals:
    """What has been asked by SIGTERM, SIGINT or SIGUSR1 so far; the second one ends the process at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._process = os.getpid()
        self._time = 0.0
        self._before: dict[int, object] = {}

    def install(self) -> None:
        """Catch the signals from now on. Only the main thread can."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}

    def restore(self) -> None:
        """Leave the signals to whom they belonged before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
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
        # Not by a handler of ours, which would wait for the operation that runs.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)


class Agreement:
    """Lets all processes learn in the same iteration that one of them has been asked to stop.

    The question travels beside the next step, over the CPUs (gloo), so that no device waits for it.
    """

    def __init__(self) -> None:
        self._group = distributed.new_group(backend='gloo') if get_world_size() > 1 else None
        self._asked: tuple[torch.Tensor, distributed.Work] | None = None

    def after_step(self, stop: bool) -> bool:
        """Whether all stop now: because of what any process has answered one call ago."""
        if self._group is None:
            return stop
        agreed = self.finish()
        answer = torch.tensor([int(stop)])
        work = distributed.all_reduce(answer, distributed.ReduceOp.MAX, self._group, async_op=True)
        self._asked = (answer, work)
        return agreed

    def now(self, stop: bool) -> bool:
        """Whether all stop now: because of what any process answers in this call."""
        if self._group is None:
            return stop
        answer = torch.tensor([int(stop)])
        distributed.all_reduce(answer, distributed.ReduceOp.MAX, self._group)
        return bool(answer.item())

    def wait_for_all(self) -> None:
        """Wait until every process has come here."""
        if self._group is not None:
            distributed.barrier(self._group)

    def finish(self) -> bool:
        """Wait for the last question; return what was agreed."""
        asked, self._asked = self._asked, None
        if asked is None:
            return False
        asked[1].wait()
        return bool(asked[0].item())


@HOOKS.register_module()
class StopSignalHook(Hook):
    """On SIGTERM, SIGINT or SIGUSR1 (Slurm's warning): finish the step, save a checkpoint, end the training.

    All processes stop after the same iteration. A validation is broken off, and made up for by the run that
    resumes. A second signal ends the process at once, with nothing saved.
    """

    priority = 'LOWEST'  # after the checkpoint that this iteration may be due

    def __init__(self) -> None:
        self.signals = StopSignals()
        self.stopped = False
        self._agreed = False
        self._agreement: Agreement | None = None  # where a training runs

    def before_train(self, runner: Runner) -> None:
        """Begin to listen, before the workers of the loaders are started."""
        self._agreement = Agreement()
        kill_workers_at_exit()
        for loader in (runner.train_dataloader, runner.val_dataloader if runner.val_loop else None):
            if loader is not None:
                loader.worker_init_fn = partial(begin_worker, loader.worker_init_fn, _SIGNALS)
        self.signals.install()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Stop if a process has been asked to, and no gradients are kept for the next iteration."""
        if self._agreement is not None and self._agreement.after_step(self.signals.received is not None):
            self._agreed = True
        if self._agreed and runner.optim_wrapper.should_update():
            self.stopped = runner.train_loop.stop_training = True

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: object = None
    ) -> None:
        """Break the validation off if a process has been asked to stop.

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
                hook.save(runner, runner.iter)
        if self._agreement is not None:
            # A process that ends with a status of its own makes its launcher end the one that still writes.
            self._agreement.wait_for_all()
        name = self.signals.received.name if self.signals.received else 'a signal to another process'
        runner.logger.warning(f'{name}: stopped after iteration {runner.iter}, saved; go on with --resume')

    def after_run(self, runner: Runner) -> None:
        """Stop listening."""
        self._agreement = None
        self.signals.restore()


def stopped_by_signal(runner: Runner) -> bool:
    """Whether the training has ended because of a signal."""
    return any(isinstance(hook, StopSignalHook) and hook.stopped for hook in runner.hooks)
