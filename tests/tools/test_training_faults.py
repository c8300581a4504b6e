"""Some of the faults of ``benchmarks/faults.py``: real trainings, killed, stopped, disturbed."""

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
def test_a_fault_ends_as_expected(
    name: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / 'benchmarks'))
    faults = importlib.import_module(f'fault_cases.{name.partition(".")[0]}').FAULTS
    seen, holds = next(fault for fault in faults if fault.name == name).run(tmp_path)
    assert holds, seen
