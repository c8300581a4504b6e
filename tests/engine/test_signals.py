"""StopSignalHook; tests/tools/test_training_faults.py sends signals to real trainings."""

import multiprocessing
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader

from dpt.engine import stop
from dpt.engine.checkpointing import CheckpointHook
from dpt.engine.stop import StopSignalHook, StopSignals, ValidationStopped, stop_status


class Wrapper:
    """Optimiser wrapper that accumulates gradients."""

    complete = True

    def should_update(self) -> bool:
        return self.complete


@pytest.fixture
def hook() -> StopSignalHook:
    hook = StopSignalHook()
    yield hook
    hook.signals.restore()


def runner(hook: StopSignalHook) -> SimpleNamespace:
    loop = SimpleNamespace(stop_training=False)
    loader = DataLoader(range(5), num_workers=1, multiprocessing_context='fork')
    return SimpleNamespace(
        hooks=[hook],
        train_loop=loop,
        val_loop=None,
        optim_wrapper=Wrapper(),
        train_dataloader=loader,
        val_dataloader=loader,
    )


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_the_training_stops_after_the_current_step(hook: StopSignalHook, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    run = runner(hook)
    hook.before_train(run)
    hook.after_train_iter(run, 0)
    assert not run.train_loop.stop_training
    os.kill(os.getpid(), number)
    assert hook.signals.received is number
    run.optim_wrapper.complete = False  # a stop here would lose gradients
    hook.after_train_iter(run, 1)
    assert not run.train_loop.stop_training
    run.optim_wrapper.complete = True
    hook.after_train_iter(run, 2)
    assert run.train_loop.stop_training
    assert stop_status(run) == 1  # without a CheckpointHook nothing is saved
    hook.after_run(run)
    assert signal.getsignal(number) is before


def test_processes_stop_when_torchrun_is_killed(
    hook: StopSignalHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner(hook)
    hook.before_train(run)
    monkeypatch.setattr(os, 'getppid', lambda: 1)
    hook.after_train_iter(run, 0)
    assert not run.train_loop.stop_training  # started in a shell that has ended
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'run')
    hook.after_train_iter(run, 1)
    assert run.train_loop.stop_training
    assert hook.signals.reason == 'torchrun has ended'


def test_several_processes_agree_at_every_tenth_image(
    hook: StopSignalHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner(hook)
    run.val_dataloader = DataLoader(range(80))
    hook.before_train(run)
    hook._agreement = SimpleNamespace(after_step=lambda stop: asked.append(stop))
    monkeypatch.setattr(stop, 'get_world_size', lambda: 2)
    asked: list[bool] = []
    for i in range(80):
        hook.after_val_iter(run, i)
    assert asked == [False] * 4  # at 0, 10, 20, 30: each process has 40 images


def test_a_validation_is_interrupted(hook: StopSignalHook) -> None:
    run = runner(hook)
    hook.after_val_iter(run, 0)  # validation or test without a training
    hook.before_train(run)
    hook.after_val_iter(run, 0)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(ValidationStopped):
        hook.after_val_iter(run, 1)


def test_processes_wait_until_the_checkpoint_is_written(hook: StopSignalHook) -> None:
    """A launcher kills the other processes as soon as one exits with a non-zero status."""
    done = []

    class Saving(CheckpointHook):
        def __init__(self) -> None:
            self.save_optimizer = True

        def save(self, runner: object) -> None:
            done.append('saved')

    class Others:
        def finish(self) -> bool:
            return True

        def wait_for_all(self) -> None:
            done.append('waited')

    run = runner(hook)
    run.hooks, run.iter = [hook, Saving()], 6
    run.logger = SimpleNamespace(warning=lambda line: done.append(line))
    hook._agreement, hook.stopped = Others(), True
    hook.after_train(run)
    assert done[:2] == ['saved', 'waited']


def test_workers_ignore_a_signal_to_the_job(hook: StopSignalHook) -> None:
    run = runner(hook)
    hook.before_train(run)
    batches = iter(run.train_dataloader)
    assert next(batches).item() == 0
    for worker in multiprocessing.active_children():
        worker.terminate()
    assert [batch.item() for batch in batches] == [1, 2, 3, 4]


def test_forked_processes_do_not_handle_signals() -> None:
    code = (
        'import os, signal, time; from dpt.engine.stop import StopSignals\n'
        'signals = StopSignals(); signals.install()\n'
        'child = os.fork()\n'
        'if child == 0:\n'
        '    os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGTERM); os._exit(7)\n'
        'assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n'
        'assert signals.received is None\n'
        'os.kill(os.getpid(), signal.SIGTERM); assert signals.received\n'
        'os.kill(os.getpid(), signal.SIGINT); time.sleep(60)'
    )
    environment = {key: value for key, value in os.environ.items() if key != 'TORCHELASTIC_RUN_ID'}
    result = subprocess.run([sys.executable, '-c', code], env=environment, timeout=120)
    assert result.returncode == -signal.SIGINT


def test_one_signal_from_terminal_and_torchrun_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'run')
    signals = StopSignals()
    signals.install()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received is signal.SIGINT
        assert signal.getsignal(signal.SIGINT) != signal.SIG_DFL
    finally:
        signals.restore()
