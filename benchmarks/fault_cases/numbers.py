"""Losses that are not finite in real trainings: what is left out, what is kept, what is said."""

import json
from pathlib import Path

import torch

from . import Fault, runs
from .probed import Trainings, last_line


def _finite(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(_finite, value))


def skipped(folder: Path) -> tuple[str, bool]:
    """Images that are not finite in iteration 3; then the state that was kept is resumed."""
    trainings = Trainings(folder)
    result = trainings.train('a', probe=dict(not_finite='[3]'), randomness__seed=6)
    if result.returncode:
        return last_line(result), False
    report = json.loads((trainings.work_dir('a') / 'non_finite/iter_2.json').read_text())
    files = [Path(name).name for name in report['processes'][0]['files']]
    named = files == trainings.steps('a')[3][1] and all(name in result.stdout for name in files)
    state = trainings.work_dir('a') / 'non_finite/iter_2.pth'
    trainings.train('again', '--resume', state)
    first = trainings.notes('again')[0]
    repeated = first['iteration'] == 3 and first['files'] == files
    checkpoint = trainings.checkpoint('a', 8)
    finite = all(_finite(checkpoint[key]) for key in ('state_dict', 'optimizer'))
    counted = checkpoint['message_hub']['runtime_info']['skipped_steps']
    seen = f'{counted} left out; files named: {named}; weights finite: {finite}; step repeated: {repeated}'
    return seen, named and finite and repeated and counted == 1


def in_one_process(folder: Path) -> tuple[str, bool]:
    """Images that are not finite in the second of two processes."""
    trainings = Trainings(folder)
    probe = dict(not_finite='[3]', not_finite_rank=1)
    result = trainings.train('a', processes=2, probe=probe)
    if result.returncode:
        return last_line(result), False
    files = trainings.steps('a', 1)[3][1]
    line = next(line for line in result.stdout.splitlines() if 'Step left out' in line)
    finite = _finite(trainings.checkpoint('a', 8)['state_dict'])
    named = all(name in line for name in files)
    return f'weights finite: {finite}; only its files named: {named}', finite and named


def stop(folder: Path) -> tuple[str, bool]:
    """The policy that ends the training."""
    trainings = Trainings(folder)
    probe = dict(not_finite='[6]')
    result = trainings.train('a', probe=probe, default_hooks__non_finite__policy='stop')
    error, files = runs.error_line(result.stderr), trainings.files('a')
    holds = result.returncode == 1 and 'iteration 6: loss not finite' in error and files == ['iter_4.pth']
    return f'status {result.returncode}; {error[:60]}; {files}', holds


def bounded(folder: Path) -> tuple[str, bool]:
    """More in a row than are allowed."""
    trainings = Trainings(folder)
    probe = dict(not_finite='[2,3,4,5,6,7,8]')
    result = trainings.train('a', probe=probe, default_hooks__non_finite__max_consecutive=3)
    error, last = runs.error_line(result.stderr), max(trainings.steps('a'))
    holds = result.returncode == 1 and 'max_consecutive=3' in error and last == 4
    return f'status {result.returncode} in iteration {last + 1}', holds


FAULTS = (
    Fault('numbers.skipped', 'step left out, files named, state repeats it', skipped),
    Fault('numbers.in_one_process', 'left out in both, weights finite', in_one_process),
    Fault('numbers.stop', 'an error in one line, the checkpoint before stays', stop),
    Fault('numbers.bounded', 'an error at the fourth in a row', bounded),
)
