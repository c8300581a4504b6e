"""Signals to trainings: where they stop, what they leave, with what status they end."""

import signal
from functools import partial
from pathlib import Path

from . import Fault, runs
from .probed import Trainings, last_line, same_training

STOPPED = 75


def stopped_and_resumed(folder: Path, *, name: str) -> tuple[str, bool]:
    """A signal after iteration 5 of 8, no regular checkpoint so far but one; then a resume."""
    trainings = Trainings(folder)
    seed = dict(randomness__seed=5)
    result = trainings.train('a', probe=dict(signal_at=6, signal=name), **seed)
    files = [file for file in trainings.files('a') if file.startswith('iter')]
    resumed = trainings.train('a', '--resume', 'auto')
    trainings.train('whole', **seed)
    equal = resumed.returncode == 0 and same_training(
        trainings.checkpoint('a', 8), trainings.checkpoint('whole', 8)
    )
    seen = f'status {result.returncode}, {files}; resumed: {"equal" if equal else last_line(resumed)}'
    return seen, result.returncode == STOPPED and 'iter_6.pth' in files and equal


def second_signal(folder: Path) -> tuple[str, bool]:
    """SIGTERM twice, a tenth of a second apart, within one iteration."""
    trainings = Trainings(folder)
    result = trainings.train('a', probe=dict(signal_at=6, signal='SIGTERM', repeated=2))
    files = [file for file in trainings.files('a') if file.startswith('iter')]
    return f'status {result.returncode}, {files}', result.returncode == -15 and files == ['iter_4.pth']


def during_validation(folder: Path) -> tuple[str, bool]:
    """SIGTERM after the first image of the validation at iteration 6."""
    trainings = Trainings(folder)
    probe = dict(signal_in_validation=True, signal='SIGTERM')
    result = trainings.train('a', probe=probe, train_cfg__val_interval=6)
    before = [line for line in runs.scalars(trainings.work_dir('a')) if 'mIoU' in line]
    resumed = trainings.train('a', '--resume', train_cfg__val_interval=6)
    notes = trainings.notes('a')
    order = [note.get('validation') or -note['iteration'] for note in notes][6:]
    seen = (
        f'status {result.returncode}, then {resumed.returncode}; validations after {order[0]} and {order[1:]}'
    )
    holds = result.returncode == STOPPED and not before and resumed.returncode == 0
    return seen.replace('-', ''), holds and order == [6, 6, -7, -8, 8]


def whole_group(folder: Path) -> tuple[str, bool]:
    """SIGTERM to the training and the workers of its loader, as scancel sends it."""
    trainings = Trainings(folder)
    arguments = trainings.arguments('a', train_cfg__max_iters=100_000, train_dataloader__num_workers=2)
    with runs.started(*arguments, log=folder / 'log', env=trainings.environment) as running:
        running.wait_for_iteration(5)
        running.kill_all(signal.SIGTERM)
        status = running.wait()
    done, files = max(trainings.steps('a')), trainings.files('a')
    return f'status {status} after iteration {done}', status == STOPPED and f'iter_{done}.pth' in files


def one_of_two(folder: Path) -> tuple[str, bool]:
    """SIGUSR1 to the second of two processes only."""
    trainings = Trainings(folder)
    probe = dict(signal_at=5, signal='SIGUSR1', signal_rank=1)
    result = trainings.train('a', processes=2, probe=probe, train_cfg__max_iters=1000)
    last = [max(trainings.steps('a', rank)) for rank in range(2)]
    saved = f'iter_{last[0]}.pth' in trainings.files('a')
    statuses = 'exitcode  : 75' in result.stdout + result.stderr
    return f'last iterations {last}, saved: {saved}, status 75: {statuses}', last[0] == last[
        1
    ] and saved and statuses


def torchrun_stopped(folder: Path) -> tuple[str, bool]:
    """SIGTERM to torchrun, which hands it to its two processes."""
    trainings = Trainings(folder)
    arguments = trainings.arguments('a', train_cfg__max_iters=100_000)
    with runs.started(*arguments, processes=2, log=folder / 'log', env=trainings.environment) as running:
        running.wait_for_iteration(5)
        running.kill(signal.SIGTERM)
        running.wait()
    last = [max(trainings.steps('a', rank)) for rank in range(2)]
    saved = f'iter_{last[0]}.pth' in trainings.files('a')
    return f'last iterations {last}, saved: {saved}', last[0] == last[1] and saved


def stuck_child(folder: Path) -> tuple[str, bool]:
    """A child process at the end of the training that takes no notice of SIGTERM, as a stuck worker."""
    trainings = Trainings(folder)
    arguments = trainings.arguments('a', probe=dict(stuck_child=True), train_cfg__max_iters=2)
    with runs.started(*arguments, log=folder / 'log', env=trainings.environment) as running:
        running.wait_for('mIoU:')
        status = running.wait(60)
    return f'status {status}', status == 0


FAULTS = (
    *(
        Fault(
            f'signals.{name.lower()}',
            'step done, saved, status 75; resumed bit by bit',
            partial(stopped_and_resumed, name=name),
        )
        for name in ('SIGTERM', 'SIGINT', 'SIGUSR1')
    ),
    Fault('signals.second', 'ends at once by the signal, nothing more saved', second_signal),
    Fault('signals.during_validation', 'status 75; the resume begins with the validation', during_validation),
    Fault('signals.whole_group', 'status 75, the last iteration saved', whole_group),
    Fault('signals.one_of_two_processes', 'both stop after the same iteration, status 75', one_of_two),
    Fault('signals.torchrun', 'both stop after the same iteration, saved', torchrun_stopped),
    Fault('signals.stuck_worker', 'the process ends all the same', stuck_child),
)
