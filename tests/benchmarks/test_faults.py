"""The verdicts and exit statuses of faults.py."""

from pathlib import Path

import faults
import pytest
from fault_cases import Fault, all_faults


def good(folder: Path) -> tuple[str, bool]:
    assert not list(folder.iterdir())
    return 'as expected', True


def broken(folder: Path) -> tuple[str, bool]:
    raise RuntimeError('the case itself fell over')


FAULTS = [
    Fault('load.good', 'good', good),
    Fault('load.bad', 'good', lambda folder: ('something else', False)),
    Fault('data.broken', 'good', broken),
]


@pytest.mark.parametrize(
    ('only', 'status', 'said'),
    [
        ('load.good', 0, '1 of 1 faults end as expected'),
        ('load', 1, 'something else'),
        ('data.broken', 1, 'RuntimeError: the case itself fell over'),
        ('', 1, '1 of 3 faults end as expected'),
    ],
)
def test_exit_status_is_0_only_if_all_hold(capsys, only: str, status: int, said: str) -> None:
    assert faults.main(['--only', only], FAULTS) == status
    assert said in capsys.readouterr().out
    assert faults.main([], []) == 1


def test_wrong_name_exits_with_2_and_list_runs_nothing(capsys) -> None:
    assert faults.main(['--only', 'loa'], FAULTS) == 2
    assert '--only loa: no such fault' in capsys.readouterr().err
    assert faults.main(['--list'], FAULTS) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [f.name for f in FAULTS]
    names = [fault.name for fault in all_faults()]
    assert len(set(names)) == len(names)
