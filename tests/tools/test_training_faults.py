"""Real trainings that are killed, stopped or disturbed, with the tools of ``benchmarks/faults.py``."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from outputs import logged


@pytest.fixture(autouse=True)
def _benchmarks(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository / 'benchmarks'))


def test_a_killed_training_resumes_exactly(tmp_path: Path) -> None:
    faults = importlib.import_module('fault_cases').all_faults()
    seen, holds = next(one for one in faults if one.name == 'checkpoints.killed_seeded').run(tmp_path)
    assert holds, seen


def test_a_signal_stops_a_validation_which_the_resume_repeats(tmp_path: Path) -> None:
    runs = importlib.import_module('fault_cases.runs')
    trainings = runs.Trainings(tmp_path)
    probe = dict(signal_in_validation=True, signal='SIGTERM')
    stopped = trainings.train('a', probe=probe, train_cfg__val_interval=6)
    assert stopped.returncode == 75, stopped.stderr
    assert not logged(trainings.work_dir('a'), 'mIoU')
    resumed = trainings.train('a', '--resume', train_cfg__val_interval=6)
    assert resumed.returncode == 0, resumed.stderr
    notes = [note.get('iteration', 'validation') for note in trainings.notes('a')]
    assert notes == [1, 2, 3, 4, 5, 6, 'validation', 'validation', 7, 8, 'validation']


def test_a_step_with_nan_images_is_skipped_and_repeatable(tmp_path: Path) -> None:
    trainings = importlib.import_module('fault_cases.runs').Trainings(tmp_path)
    result = trainings.train('a', probe=dict(not_finite='[3]'), randomness__seed=6)
    assert result.returncode == 0, result.stderr
    state = trainings.work_dir('a') / 'non_finite/iter_2.pth'
    report = json.loads(state.with_suffix('.json').read_text())
    files = [Path(name).name for batch in report['batches'] for name in batch['files']]
    assert files == trainings.steps('a')[3][1]
    assert all(name in result.stdout for name in files)
    checkpoint = trainings.checkpoint('a', 8)
    assert checkpoint['message_hub']['runtime_info']['skipped_steps'] == 1
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint['state_dict'].values())
    trainings.train('again', '--resume', state)
    first = trainings.notes('again')[0]
    assert (first['iteration'], first['files']) == (3, files)
