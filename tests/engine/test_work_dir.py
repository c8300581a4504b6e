"""One run at a time in a work directory; a restarted run knows its own checkpoints."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dpt.engine.work_dir import LOCK_NAME, RESTARTS, locked_work_dir, saved_before_restart

HOLDER = """
import os, sys, time
from dpt.engine.work_dir import locked_work_dir
with locked_work_dir(sys.argv[1]):
    child = os.fork()  # as the data loader does
    if child:
        print(child, flush=True)
    time.sleep(100)
"""


def test_a_second_run_is_told_who_holds_the_folder(tmp_path: Path) -> None:
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


def test_a_killed_run_leaves_no_lock_even_where_its_workers_live_on(tmp_path: Path) -> None:
    command = [sys.executable, '-c', HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        worker = int(holder.stdout.readline())
        try:
            with pytest.raises(BlockingIOError, match=str(holder.pid)), locked_work_dir(tmp_path):
                pass
            holder.kill()
            holder.wait()
            os.kill(worker, 0)
            with locked_work_dir(tmp_path):
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_the_first_process_holds_the_lock_for_all(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('RANK', '1')
    with locked_work_dir(tmp_path, 'pytorch'):
        assert not (tmp_path / LOCK_NAME).exists()
    monkeypatch.setenv('RANK', '0')
    with locked_work_dir(tmp_path, 'pytorch'):
        monkeypatch.setenv('RANK', '1')
        with locked_work_dir(tmp_path, 'pytorch'):
            pass


def test_a_file_system_without_locks_is_a_warning(tmp_path: Path, monkeypatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', refuse)
    with pytest.warns(UserWarning, match='no second run there'), locked_work_dir(tmp_path):
        pass


def save(work_dir: Path, age: float = 0) -> None:
    pointer = work_dir / 'last_checkpoint'
    pointer.write_text('iter_2.pth')
    moment = pointer.stat().st_mtime - age
    os.utime(pointer, (moment, moment))


def test_only_what_the_restarted_run_itself_has_saved_counts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv(RESTARTS, raising=False)
    save(tmp_path, age=60)  # of an earlier run
    with locked_work_dir(tmp_path):
        assert not saved_before_restart(tmp_path)
    began = json.loads((tmp_path / LOCK_NAME).read_text())['began']
    monkeypatch.setenv(RESTARTS, '1')
    with locked_work_dir(tmp_path):
        assert not saved_before_restart(tmp_path)
        save(tmp_path)
    monkeypatch.setenv(RESTARTS, '2')
    with locked_work_dir(tmp_path):
        assert saved_before_restart(tmp_path)
    assert json.loads((tmp_path / LOCK_NAME).read_text())['began'] == began
    monkeypatch.setenv(RESTARTS, '0')
    assert not saved_before_restart(tmp_path)


def test_a_lock_file_with_rubbish_in_it_does_no_harm(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / LOCK_NAME).write_bytes(b'\xff not json')
    save(tmp_path)
    monkeypatch.setenv(RESTARTS, '1')
    assert not saved_before_restart(tmp_path)
    with locked_work_dir(tmp_path):
        assert not saved_before_restart(tmp_path)
