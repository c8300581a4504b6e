"""Lock of the work directory, and checkpoints of a restarted run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpt.engine import work_dir
from dpt.engine.distributed import RESTARTS
from dpt.engine.work_dir import LOCK_NAME, locked_work_dir, saved_before_restart

HOLDER = """
import sys, time
from dpt.engine.work_dir import locked_work_dir
with locked_work_dir(sys.argv[1]):
    print('held', flush=True)
    time.sleep(100)
"""


def test_a_second_run_is_rejected(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(work_dir, 'PATIENCE', 0.1)
    with locked_work_dir(tmp_path / 'new'):
        with (
            pytest.raises(BlockingIOError, match=rf'process {os.getpid()} on .*--work-dir'),
            locked_work_dir(tmp_path / 'new'),
        ):
            pass
        with locked_work_dir(tmp_path / 'other'):
            pass
    with locked_work_dir(tmp_path / 'new'):
        pass


def test_a_killed_run_releases_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, '-c', HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == 'held\n'
        holder.kill()
    with locked_work_dir(tmp_path):
        pass


def test_rank_0_holds_the_lock_for_all_processes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('RANK', '1')
    with locked_work_dir(tmp_path, 'pytorch'):
        assert not (tmp_path / LOCK_NAME).exists()
    monkeypatch.setenv('RANK', '0')
    with locked_work_dir(tmp_path, 'pytorch'):
        monkeypatch.setenv('RANK', '1')
        with locked_work_dir(tmp_path, 'pytorch'):
            pass


def save(folder: Path, age: float = 0) -> None:
    pointer = folder / 'last_checkpoint'
    pointer.write_text('iter_2.pth')
    moment = pointer.stat().st_mtime - age
    os.utime(pointer, (moment, moment))


def test_only_checkpoints_of_the_restarted_run_count(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv(RESTARTS, raising=False)
    save(tmp_path, age=60)  # from an earlier run
    with locked_work_dir(tmp_path):
        assert not saved_before_restart(tmp_path)
    monkeypatch.setenv(RESTARTS, '1')
    with locked_work_dir(tmp_path):
        assert not saved_before_restart(tmp_path)
        save(tmp_path)
    monkeypatch.setenv(RESTARTS, '2')
    with locked_work_dir(tmp_path):
        assert saved_before_restart(tmp_path)
    monkeypatch.setenv(RESTARTS, '0')
    assert not saved_before_restart(tmp_path)
