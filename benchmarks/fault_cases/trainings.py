"""Faults in training: kills, full disk, signals, NaN images, and memory over many iterations."""

import signal
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import torch

from . import Fault, runs
from .runs import Trainings, last_line, same_training

ITERATIONS = 2000
ALLOWED = 4.0
"""Maximum memory growth of the training and its workers in MiB per 1,000 iterations."""


def resume_exactly(
    folder: Path, *, workers: int, processes: int, amp: bool = False, seed: int | None = None
) -> tuple[str, bool]:
    """Compare 40 iterations with a run that saves every 5, is killed after 23, and is resumed."""
    trainings = Trainings(folder)
    flags = ['--amp'] if amp else []
    options: dict = dict(
        train_cfg__max_iters=40,
        train_dataloader__num_workers=workers,
        default_hooks__checkpoint__interval=5,
    )
    train = partial(trainings.train, processes=processes, **options)
    killed = train('killed', *flags, probe=dict(signal_at=23), randomness__seed=seed)
    if killed.returncode not in (-9, 1) or 23 not in trainings.steps('killed'):
        return f'not killed: {last_line(killed)}', False
    resumed = train('killed', *flags, '--resume')
    if resumed.returncode:
        return last_line(resumed), False
    after = trainings.checkpoint('killed', 40)
    whole = train('whole', *flags, randomness__seed=after['meta']['seed'])
    if whole.returncode:
        return last_line(whole), False
    losses = all(
        trainings.steps('killed', rank) == trainings.steps('whole', rank) for rank in range(processes)
    )
    weights = same_training(after, trainings.checkpoint('whole', 40))
    redone = len(trainings.notes('killed')) - 40
    seen = f'{redone} iterations repeated; losses and files equal: {losses}, weights: {weights}'
    return seen, losses and weights and len(trainings.steps('killed')) == 40


def killed_while_saving(folder: Path) -> tuple[str, bool]:
    """Send SIGKILL while the second checkpoint is half written."""
    trainings = Trainings(folder)
    killed = trainings.train('a', probe=dict(signal_while_saving=8), train_cfg__max_iters=12)
    files = trainings.files('a')
    resumed = trainings.train('a', '--resume')
    left = [name for name in trainings.files('a') if not name.startswith('best')]
    seen = f'status {killed.returncode}, left {files}; resume: status {resumed.returncode}, then {left}'
    partial_left = any(name.endswith('.partial') for name in files)
    went_on = 'iter: 4' in resumed.stdout + resumed.stderr
    holds = killed.returncode == -9 and partial_left and 'iter_8.pth' not in files and went_on
    holds &= resumed.returncode == 0 and left == ['iter_4.pth', 'iter_8.pth']
    return seen.replace('.pth', ''), holds


def disk_full(folder: Path) -> tuple[str, bool]:
    """Limit the file size to less than a checkpoint, starting with the second checkpoint."""
    trainings = Trainings(folder)
    trainings.train('a', train_cfg__max_iters=4)
    limit = (trainings.work_dir('a') / 'iter_4.pth').stat().st_size * 2 // 3 // 1024
    command = runs.command_line(*trainings.arguments('a', '--resume'))
    result = subprocess.run(
        ['bash', '-c', f'ulimit -f {limit}; exec "$@"', '-', *command],
        cwd=runs.REPOSITORY,
        env=runs.environment(trainings.environment),
        capture_output=True,
        text=True,
        timeout=runs.TIMEOUT,
    )
    error, files = runs.error_line(result.stderr), trainings.files('a')
    resumed = trainings.train('a', '--resume')
    said = 'iter_8.pth: the checkpoint could not be written' in error
    kept = 'iter_4.pth' in files and not any('iter_8' in name for name in files)
    holds = result.returncode == 1 and said and kept and resumed.returncode == 0
    return f'{error[-160:] or last_line(result)}; left {files}; later resumed: {resumed.returncode}', holds


def other_number_of_processes(folder: Path) -> tuple[str, bool]:
    """Start with one process, resume with two."""
    trainings = Trainings(folder)
    seed = dict(randomness__seed=1)
    trainings.train('a', train_cfg__max_iters=4, **seed)
    result = trainings.train('a', '--resume', processes=2, **seed)
    trainings.train('whole', **seed)
    both = [trainings.steps('a', rank) for rank in range(2)]
    whole = trainings.steps('whole')
    equal = all(sorted(both[0][i][1] + both[1][i][1]) == sorted(whole[i][1]) for i in range(5, 9))
    said = 'the number of processes has changed from 1 to 2' in result.stdout + result.stderr
    return f'same files in each iteration: {equal}; said: {said}', equal and said


def _stopped_together(trainings: Trainings) -> tuple[str, bool]:
    last = [max(trainings.steps('a', rank)) for rank in range(2)]
    saved = f'iter_{last[0]}.pth' in trainings.files('a')
    return f'last iterations {last}, saved: {saved}', last[0] == last[1] and saved


def one_of_two(folder: Path) -> tuple[str, bool]:
    """Send SIGUSR1 only to the second of two processes."""
    trainings = Trainings(folder)
    probe = dict(signal_at=5, signal='SIGUSR1', signal_rank=1)
    result = trainings.train('a', processes=2, probe=probe, train_cfg__max_iters=1000)
    seen, holds = _stopped_together(trainings)
    statuses = 'exitcode  : 75' in result.stdout + result.stderr
    return f'{seen}, status 75: {statuses}', holds and statuses


def torchrun_stopped(folder: Path) -> tuple[str, bool]:
    """Send SIGTERM to torchrun, which forwards it to its two processes."""
    trainings = Trainings(folder)
    arguments = trainings.arguments('a', train_cfg__max_iters=100_000)
    with runs.started(*arguments, processes=2, log=folder / 'log', env=trainings.environment) as running:
        running.wait_for_iteration(5)
        running.process.send_signal(signal.SIGTERM)
        running.wait()
    return _stopped_together(trainings)


def skipped_step_in_one_process(folder: Path) -> tuple[str, bool]:
    """Set the images to NaN in the second of two processes."""
    trainings = Trainings(folder)
    result = trainings.train('a', processes=2, probe=dict(not_finite='[3]', not_finite_rank=1))
    if result.returncode:
        return last_line(result), False
    files = trainings.steps('a', 1)[3][1]
    line = next(line for line in result.stdout.splitlines() if all(name in line for name in files))
    weights = trainings.checkpoint('a', 8)['state_dict']
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    others = [name for name in trainings.steps('a', 0)[3][1] if name not in files]
    named = not any(name in line for name in others)
    return f'weights finite: {finite}; only its files named: {named}', finite and named


def memory(folder: Path) -> tuple[str, bool]:
    """Train a tiny model for 2,000 iterations with two workers, logging and four checkpoints."""
    trainings = Trainings(folder)
    result = trainings.train(
        'a',
        probe=dict(memory_interval=50),
        timeout=3600,
        train_cfg__max_iters=ITERATIONS,
        train_dataloader__num_workers=2,
        default_hooks__logger__interval=50,
        default_hooks__checkpoint__interval=500,
    )
    if result.returncode:
        return last_line(result), False
    noted = [note for note in trainings.notes('a') if note.get('memory')]
    # The first two checkpoints increase the memory, so the slope is fitted to the second half.
    points = [(note['iteration'], sum(note['memory'].values())) for note in noted[len(noted) // 2 :]]
    growth = 1000 * float(np.polyfit(*np.array(points).T, 1)[0])
    last = noted[-1]['memory']
    seen = f'{growth:+.2f} MiB per 1,000; at the end {last["process"]:.0f} MiB, workers {last["workers"]:.0f}'
    return seen, growth < ALLOWED


EXACT = 'bit-identical losses, files and weights'
FAULTS = (
    *(
        Fault(f'checkpoints.killed_{name}', EXACT, partial(resume_exactly, **settings))
        for name, settings in {
            '0_workers': dict(workers=0, processes=1, amp=True),
            '2_workers': dict(workers=2, processes=1),
            'seeded': dict(workers=2, processes=1, amp=True, seed=3),
            '2_processes': dict(workers=2, processes=2),
            '2_processes_amp': dict(workers=0, processes=2, amp=True, seed=4),
        }.items()
    ),
    Fault(
        'checkpoints.killed_while_saving',
        'resumes from the previous one, removes the partial file',
        killed_while_saving,
    ),
    Fault('checkpoints.disk_full', 'one error line; the valid checkpoint is kept and resumed', disk_full),
    Fault(
        'checkpoints.other_number_of_processes',
        'logs the change; same files in each iteration',
        other_number_of_processes,
    ),
    Fault('signals.one_of_two_processes', 'both stop after the same iteration, status 75', one_of_two),
    Fault('signals.torchrun', 'both stop after the same iteration, saved', torchrun_stopped),
    Fault('numbers.in_one_process', 'skipped in both, weights finite', skipped_step_in_one_process),
    Fault('memory.training', f'growth below {ALLOWED:g} MiB per 1,000 iterations', memory),
)
