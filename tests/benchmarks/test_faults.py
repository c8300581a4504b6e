"""The verdicts and exit statuses of faults.py, and how it starts and watches a tool."""

from pathlib import Path

import faults
import pytest
from fault_cases import Fault, all_faults
from fault_cases.runs import error_line, run_tool, started, tiny_config


def good(folder: Path) -> tuple[str, bool]:
    assert folder.is_dir()
    assert not list(folder.iterdir())
    return 'as expected', True


def bad(folder: Path) -> tuple[str, bool]:
    return 'something else', False


def broken(folder: Path) -> tuple[str, bool]:
    raise RuntimeError('the case itself fell over')


FAULTS = [
    Fault('load.good', 'good', good),
    Fault('load.bad', 'good', bad),
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
    shown = capsys.readouterr()
    assert said in shown.out
    assert 'done' in shown.err


def test_wrong_name_exits_with_2_and_list_runs_nothing(capsys) -> None:
    assert faults.main([], []) == 1  # no faults do not hold
    assert faults.main(['--only', 'loa'], FAULTS) == 2
    assert '--only loa: no such fault' in capsys.readouterr().err
    assert faults.main(['--list'], FAULTS) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [f.name for f in FAULTS]


def test_names_of_faults_are_unique() -> None:
    names = [fault.name for fault in all_faults()]
    assert len(set(names)) == len(names) > 30


def test_memory_of_the_metric_is_bounded(tmp_path: Path) -> None:
    (fault,) = [fault for fault in all_faults() if fault.name == 'load.metric']
    seen, holds = fault.run(tmp_path)
    assert holds, seen


def test_tool_is_started_watched_and_killed(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, train=2, val=1)
    options = ('--cfg-options', 'train_cfg.max_iters=10000', 'default_hooks.logger.interval=1')
    arguments = ('tools/train.py', config, '--work-dir', tmp_path / 'work', *options)
    with started(*arguments, log=tmp_path / 'log') as run:
        run.wait_for_iteration(3)
        assert run.process.poll() is None
        run.kill()
        assert run.wait(60) == -9


def test_waiting_for_output_of_ended_tool_raises(tmp_path: Path) -> None:
    with (
        started('tools/train.py', 'nowhere.py', log=tmp_path / 'log') as run,
        pytest.raises(RuntimeError, match='waited in vain'),
    ):
        run.wait_for('Iter')
    result = run_tool('tools/train.py', 'nowhere.py')
    assert result.returncode == 1
    assert 'nowhere.py' in error_line(result.stderr)
