"""Trainings that are killed, checkpoints that are damaged, disks that are full: what a resume makes of it."""

import os
import subprocess
from functools import partial
from pathlib import Path

import torch

from . import Fault, runs
from .probed import Trainings, last_line, same_training


def resume_exactly(
    folder: Path, *, workers: int, processes: int, amp: bool = False, seed: int | None = None
) -> tuple[str, bool]:
    """40 iterations in one go, against SIGKILL after 23, checkpoints every 5, and a resume."""
    trainings = Trainings(folder)
    flags = ['--amp'] if amp else []
    options: dict = dict(
        train_cfg__max_iters=40,
        train_dataloader__num_workers=workers,
        default_hooks__checkpoint__interval=5,
    )
    killed = trainings.train(
        'killed', *flags, processes=processes, probe=dict(signal_at=23), randomness__seed=seed, **options
    )
    if killed.returncode not in (-9, 1) or 23 not in trainings.steps('killed'):
        return f'not killed: {last_line(killed)}', False
    resumed = trainings.train('killed', *flags, '--resume', processes=processes, **options)
    if resumed.returncode:
        return last_line(resumed), False
    after = trainings.checkpoint('killed', 40)
    whole = trainings.train(
        'whole', *flags, processes=processes, randomness__seed=after['meta']['seed'], **options
    )
    if whole.returncode:
        return last_line(whole), False
    losses = all(
        trainings.steps('killed', rank) == trainings.steps('whole', rank) for rank in range(processes)
    )
    weights = same_training(after, trainings.checkpoint('whole', 40))
    redone = len(trainings.notes('killed')) - 40
    seen = f'{redone} iterations done twice; losses and files {_word(losses)}, weights {_word(weights)}'
    return seen, losses and weights and len(trainings.steps('killed')) == 40


def _word(equal: bool) -> str:
    return 'equal' if equal else 'DIFFERENT'


def killed_while_saving(folder: Path) -> tuple[str, bool]:
    """SIGKILL while the second checkpoint is half on the disk."""
    trainings = Trainings(folder)
    killed = trainings.train('a', probe=dict(signal_while_saving=8), train_cfg__max_iters=12)
    files = trainings.files('a')
    resumed = trainings.train('a', '--resume')
    left = [name for name in trainings.files('a') if not name.startswith('best')]
    seen = (
        f'status {killed.returncode}, left {files}; resume: status {resumed.returncode}, then {left}'.replace(
            '.pth', ''
        )
    )
    partial_left = any(name.endswith('.partial') for name in files)
    went_on = 'iter: 4' in resumed.stdout + resumed.stderr
    holds = killed.returncode == -9 and partial_left and 'iter_8.pth' not in files and went_on
    return seen, holds and resumed.returncode == 0 and left == ['iter_4.pth', 'iter_8.pth']


def damaged_newest(folder: Path, *, truncated: bool) -> tuple[str, bool]:
    """The newest checkpoint is cut short, or a bit of a tensor in it is flipped."""
    trainings = Trainings(folder)
    trainings.train('a')
    newest = trainings.work_dir('a') / 'iter_8.pth'
    if truncated:
        os.truncate(newest, newest.stat().st_size // 2)
    else:
        content = bytearray(newest.read_bytes())
        content[len(content) // 3] ^= 1
        newest.write_bytes(content)
    resumed = trainings.train('a', '--resume', train_cfg__max_iters=9)
    output = resumed.stdout + resumed.stderr
    said = [line.partition('WARNING - ')[2] for line in output.splitlines() if 'not resumed from' in line]
    holds = resumed.returncode == 0 and len(said) == 1 and 'iter_8.pth' in said[0] and 'iter: 4' in output
    return f'status {resumed.returncode}; {Path(said[0]).name if said else "nothing said"}', holds


def nothing_to_resume(folder: Path) -> tuple[str, bool]:
    """``--resume`` in an empty work directory."""
    trainings = Trainings(folder)
    result = trainings.train('a', '--resume')
    error = runs.error_line(result.stderr)
    return (
        f'status {result.returncode}; {error[:90]}',
        result.returncode == 1 and 'nothing to resume' in error,
    )


def disk_full(folder: Path) -> tuple[str, bool]:
    """No file may grow as large as a checkpoint, from the second one on."""
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


def best_is_kept(folder: Path) -> tuple[str, bool]:
    """Validations before and after a kill and a resume; one checkpoint is kept beside the best."""
    trainings = Trainings(folder)
    options: dict = dict(
        train_cfg__val_interval=2,
        default_hooks__checkpoint__interval=2,
        default_hooks__checkpoint__max_keep_ckpts=1,
    )
    trainings.train('a', probe=dict(signal_at=5), **options)
    resumed = trainings.train('a', '--resume', **options)
    scores = [line['mIoU'] for line in runs.scalars(trainings.work_dir('a')) if 'mIoU' in line]
    files = trainings.files('a')
    best = [name for name in files if name.startswith('best_')]
    kept = torch.load(trainings.work_dir('a') / best[0], weights_only=True)['meta']['metric']['mIoU']
    holds = resumed.returncode == 0 and abs(kept - max(scores)) < 1e-3 and files == [*best[:1], 'iter_8.pth']
    return f'{len(scores)} validations, the best {max(scores):.2f}; kept {files} with {kept:.2f}', holds


def resume_late(folder: Path) -> tuple[str, bool]:
    """Going on at iteration 100,000 against going on at 4: time until the first step is done."""
    trainings = Trainings(folder)
    trainings.train('a', train_cfg__max_iters=4)
    path = trainings.work_dir('a') / 'iter_4.pth'
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta']['iter'] = 100_000
    checkpoint['message_hub']['runtime_info']['samples_seen'] = 200_000
    late = folder / 'late.pth'
    torch.save(checkpoint, late)
    trainings.train('b', '--resume', path, train_cfg__max_iters=5)
    trainings.train('c', '--resume', late, train_cfg__max_iters=100_001, train_cfg__val_interval=10**6)
    early, last = (trainings.notes(name)[0] for name in ('b', 'c'))  # the first step of each
    more = last['seconds'] - early['seconds']
    seen = f'{early["seconds"]:.2f} s at 4, {last["seconds"]:.2f} s at {last["iteration"] - 1:,}'
    return seen, last['iteration'] == 100_001 and more < 1


def other_number_of_processes(folder: Path) -> tuple[str, bool]:
    """Begun with one process, resumed with two."""
    trainings = Trainings(folder)
    seed = dict(randomness__seed=1)
    trainings.train('a', train_cfg__max_iters=4, **seed)
    result = trainings.train('a', '--resume', processes=2, **seed)
    trainings.train('whole', **seed)
    both = [trainings.steps('a', rank) for rank in range(2)]
    whole = trainings.steps('whole')
    same = all(sorted(both[0][i][1] + both[1][i][1]) == sorted(whole[i][1]) for i in range(5, 9))
    said = '1 processes so far, 2 from now on' in result.stdout + result.stderr
    return f'files of each iteration {_word(same)}; said: {said}', same and said


EXACT = 'same losses, files and weights, bit by bit'
FAULTS = (
    Fault(
        'checkpoints.killed_0_workers',
        EXACT,
        partial(resume_exactly, workers=0, processes=1, amp=True),
    ),
    Fault('checkpoints.killed_2_workers', EXACT, partial(resume_exactly, workers=2, processes=1)),
    Fault(
        'checkpoints.killed_seeded', EXACT, partial(resume_exactly, workers=2, processes=1, amp=True, seed=3)
    ),
    Fault('checkpoints.killed_2_processes', EXACT, partial(resume_exactly, workers=2, processes=2)),
    Fault(
        'checkpoints.killed_2_processes_amp',
        EXACT,
        partial(resume_exactly, workers=0, processes=2, amp=True, seed=4),
    ),
    Fault('checkpoints.killed_while_saving', 'goes on from the one before, clears up', killed_while_saving),
    Fault(
        'checkpoints.truncated_newest',
        'says so, goes on from the one before',
        partial(damaged_newest, truncated=True),
    ),
    Fault(
        'checkpoints.flipped_bit',
        'says so, goes on from the one before',
        partial(damaged_newest, truncated=False),
    ),
    Fault('checkpoints.nothing_to_resume', 'an error in one line', nothing_to_resume),
    Fault('checkpoints.disk_full', 'one line; the good one stays and is resumed', disk_full),
    Fault('checkpoints.best_is_kept', 'the best of all, beside the last', best_is_kept),
    Fault('checkpoints.resume_at_100000', 'less than a second more than at 4', resume_late),
    Fault(
        'checkpoints.other_number_of_processes',
        'says what changes; same files in each iteration',
        other_number_of_processes,
    ),
)
