"""Faults in training: kills, signals, NaN images, damaged checkpoints, and memory over many iterations."""

import json
import signal
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import torch

from . import Fault, runs
from .runs import Trainings, last_line, same_training

STOPPED = 75  # exit status of a training that was stopped by a signal and can be resumed
ITERATIONS = 2000
ALLOWED = 4.0
"""Maximum memory growth of the training and its workers in MiB per 1,000 iterations."""


def _word(equal: bool) -> str:
    return 'equal' if equal else 'DIFFERENT'


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
    seen = f'{redone} iterations repeated; losses and files {_word(losses)}, weights {_word(weights)}'
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


def damaged_newest(folder: Path, *, truncated: bool) -> tuple[str, bool]:
    """Truncate the newest checkpoint, or flip a bit of a tensor in it."""
    trainings = Trainings(folder)
    trainings.train('a')
    newest = trainings.work_dir('a') / 'iter_8.pth'
    content = bytearray(newest.read_bytes())
    content[len(content) // 3] ^= 1
    newest.write_bytes(content[: len(content) // 2] if truncated else content)
    resumed = trainings.train('a', '--resume', train_cfg__max_iters=9)
    output = resumed.stdout + resumed.stderr
    said = [line.partition('WARNING - ')[2] for line in output.splitlines() if 'not resumed from' in line]
    holds = resumed.returncode == 0 and len(said) == 1 and 'iter_8.pth' in said[0] and 'iter: 4' in output
    return f'status {resumed.returncode}; {Path(said[0]).name if said else "no warning"}', holds


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


def best_is_kept(folder: Path) -> tuple[str, bool]:
    """Validate before and after a kill and a resume, keeping one checkpoint in addition to the best."""
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
    said = '1 processes so far, 2 from now on' in result.stdout + result.stderr
    return f'files of each iteration {_word(equal)}; said: {said}', equal and said


def bad_sample_and_resume(folder: Path) -> tuple[str, bool]:
    """Replace a damaged sample in a run of four iterations, and in one that is resumed after two."""
    trainings = Trainings(folder)
    image = sorted((folder / 'data/images/training').iterdir())[2]
    image.write_bytes(image.read_bytes()[:-60])
    options: dict = dict(
        randomness__seed=3,
        train_dataloader__dataset__max_bad_samples=1,
        default_hooks__checkpoint__interval=2,
    )
    results = [
        trainings.train('whole', train_cfg__max_iters=4, **options),
        trainings.train('parts', train_cfg__max_iters=2, **options),
        trainings.train('parts', '--resume', train_cfg__max_iters=4, **options),
    ]
    whole, parts = (trainings.checkpoint(name, 4)['state_dict'] for name in ('whole', 'parts'))
    different = [key for key in whole if not torch.equal(whole[key], parts[key])]
    skips = sum('skipped, 1 of at most 1' in result.stdout + result.stderr for result in results)
    holds = not different and skips > 0 and not any(result.returncode for result in results)
    return f'{len(different)} of {len(whole)} tensors differ; skipped in {skips} of 3 runs', holds


def stopped_and_resumed(folder: Path, *, name: str) -> tuple[str, bool]:
    """Send a signal in iteration 6 of 8 after one regular checkpoint, then resume."""
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
    """Send SIGTERM twice within one iteration, 0.1 s apart."""
    trainings = Trainings(folder)
    result = trainings.train('a', probe=dict(signal_at=6, signal='SIGTERM', repeated=2))
    files = [file for file in trainings.files('a') if file.startswith('iter')]
    return f'status {result.returncode}, {files}', result.returncode == -15 and files == ['iter_4.pth']


def during_validation(folder: Path) -> tuple[str, bool]:
    """Send SIGTERM after the first image of the validation at iteration 6."""
    trainings = Trainings(folder)
    probe = dict(signal_in_validation=True, signal='SIGTERM')
    result = trainings.train('a', probe=probe, train_cfg__val_interval=6)
    before = [line for line in runs.scalars(trainings.work_dir('a')) if 'mIoU' in line]
    resumed = trainings.train('a', '--resume', train_cfg__val_interval=6)
    order = [note.get('validation') or -note['iteration'] for note in trainings.notes('a')][6:]
    holds = result.returncode == STOPPED and not before and resumed.returncode == 0
    statuses = f'status {result.returncode}, then {resumed.returncode}'
    seen = f'{statuses}; validations after {order[0]} and {order[1:]}'.replace('-', '')
    return seen, holds and order == [6, 6, -7, -8, 8]


def whole_group(folder: Path) -> tuple[str, bool]:
    """Send SIGTERM to the training and its data-loading workers, like scancel."""
    trainings = Trainings(folder)
    arguments = trainings.arguments('a', train_cfg__max_iters=100_000, train_dataloader__num_workers=2)
    with runs.started(*arguments, log=folder / 'log', env=trainings.environment) as running:
        running.wait_for_iteration(5)
        running.kill_all(signal.SIGTERM)
        status = running.wait()
    done, files = max(trainings.steps('a')), trainings.files('a')
    return f'status {status} after iteration {done}', status == STOPPED and f'iter_{done}.pth' in files


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
        running.kill(signal.SIGTERM)
        running.wait()
    return _stopped_together(trainings)


def _finite(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(_finite, value))


def skipped_step(folder: Path) -> tuple[str, bool]:
    """Set the images of iteration 3 to NaN, then resume from the saved state."""
    trainings = Trainings(folder)
    result = trainings.train('a', probe=dict(not_finite='[3]'), randomness__seed=6)
    if result.returncode:
        return last_line(result), False
    report = json.loads((trainings.work_dir('a') / 'non_finite/iter_2.json').read_text())
    files = [Path(name).name for name in report['batches'][0]['files']]
    named = files == trainings.steps('a')[3][1] and all(name in result.stdout for name in files)
    trainings.train('again', '--resume', trainings.work_dir('a') / 'non_finite/iter_2.pth')
    first = trainings.notes('again')[0]
    repeated = first['iteration'] == 3 and first['files'] == files
    checkpoint = trainings.checkpoint('a', 8)
    finite = all(_finite(checkpoint[key]) for key in ('state_dict', 'optimizer'))
    counted = checkpoint['message_hub']['runtime_info']['skipped_steps']
    seen = f'{counted} skipped; files named: {named}; weights finite: {finite}; step repeated: {repeated}'
    return seen, named and finite and repeated and counted == 1


def skipped_step_in_one_process(folder: Path) -> tuple[str, bool]:
    """Set the images to NaN in the second of two processes."""
    trainings = Trainings(folder)
    result = trainings.train('a', processes=2, probe=dict(not_finite='[3]', not_finite_rank=1))
    if result.returncode:
        return last_line(result), False
    files = trainings.steps('a', 1)[3][1]
    line = next(line for line in result.stdout.splitlines() if all(name in line for name in files))
    finite = _finite(trainings.checkpoint('a', 8)['state_dict'])
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
    *(
        Fault(f'checkpoints.{name}', 'warns, resumes from the previous one', partial(damaged_newest, **how))
        for name, how in {
            'truncated_newest': dict(truncated=True),
            'flipped_bit': dict(truncated=False),
        }.items()
    ),
    Fault('checkpoints.disk_full', 'one error line; the valid checkpoint is kept and resumed', disk_full),
    Fault('checkpoints.best_is_kept', 'the best of all validations, and the last', best_is_kept),
    Fault(
        'checkpoints.other_number_of_processes',
        'logs the change; same files in each iteration',
        other_number_of_processes,
    ),
    *(
        Fault(
            f'signals.{name.lower()}',
            'step done, saved, status 75; bit-identical resume',
            partial(stopped_and_resumed, name=name),
        )
        for name in ('SIGTERM', 'SIGINT', 'SIGUSR1')
    ),
    Fault('signals.second', 'killed by the signal immediately, nothing more saved', second_signal),
    Fault('signals.during_validation', 'status 75; the resume begins with the validation', during_validation),
    Fault('signals.whole_group', 'status 75, the last iteration saved', whole_group),
    Fault('signals.one_of_two_processes', 'both stop after the same iteration, status 75', one_of_two),
    Fault('signals.torchrun', 'both stop after the same iteration, saved', torchrun_stopped),
    Fault('numbers.skipped', 'step skipped, files named, saved state repeats it', skipped_step),
    Fault('numbers.in_one_process', 'skipped in both, weights finite', skipped_step_in_one_process),
    Fault('memory.training', f'growth below {ALLOWED:g} MiB per 1,000 iterations', memory),
    Fault('data.skip_and_resume', 'all weights bit-identical', bad_sample_and_resume),
)
