"""Real trainings that are killed, stopped or disturbed: some of the faults of ``benchmarks/faults.py``."""

import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    'name',
    [
        'checkpoints.killed_seeded',
        'checkpoints.killed_2_processes',
        'checkpoints.disk_full',
        'signals.during_validation',
        'numbers.skipped',
    ],
)
def test_training_fault(name: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository / 'benchmarks'))
    faults = importlib.import_module('fault_cases').all_faults()
    seen, holds = next(fault for fault in faults if fault.name == name).run(tmp_path)
    assert holds, seen


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.backbone.embed_dim=32', 'did you mean embed_dims?'),
        ('model.decode_head.num_classes=7', '6 classes'),
        ('train_dataloader.dataset.pipeline.3.crop_size=(128,128)', 'model.data_preprocessor.size'),
    ],
)
def test_config_mistake_is_one_line_before_anything_runs(
    run_tool, tiny_config: Path, tmp_path: Path, option: str, message: str
) -> None:
    arguments = ('tools/train.py', tiny_config, '--work-dir', tmp_path, '--cfg-options', option)
    result = run_tool(*arguments, status=1)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith('error: ')]
    assert 'Traceback' not in result.stderr
    assert all(part in line for part in (str(tiny_config), option.partition('=')[0], message))
    assert result.stdout == ''
