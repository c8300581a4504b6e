"""Trainings started by torchrun."""

from pathlib import Path


def test_the_report_of_torchrun_names_the_mistake(run_tool, tiny_config: Path, tmp_path: Path) -> None:
    options = ('--work-dir', tmp_path, '--cfg-options', 'total_batch_size=3')
    result = run_tool('tools/train.py', tiny_config, *options, status=1, processes=2)
    message = 'total_batch_size=3 cannot be shared equally by 2 processes'
    assert sum(line.startswith('error: ') for line in result.stderr.splitlines()) <= 1
    assert message in result.stderr.partition('Root Cause')[2]
