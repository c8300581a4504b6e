"""A process ends, whatever its children do."""

import subprocess
import sys
import time

import pytest

CHILD = (
    'import multiprocessing, signal, time\n'
    'from dpt.engine import exit\n'
    'def stuck():\n'
    '    signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)\n'
    'def main():\n'
    '    multiprocessing.get_context("fork").Process(target=stuck, daemon=True).start()\n'
    '    time.sleep(0.5)\n'
)


@pytest.mark.parametrize(('end', 'status'), [('pass', 0), ('raise SystemExit(75)', 75), ('1 / 0', 1)])
def test_a_child_that_ignores_sigterm_does_not_hold_it_up(end: str, status: int) -> None:
    code = f'{CHILD}    {end}\nwith exit.ends_for_sure():\n    main()'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, timeout=100)
    assert result.returncode == status


def test_the_workers_of_a_training_do_not_hold_up_a_program_of_somebody_else() -> None:
    code = f'{CHILD}exit.kill_workers_at_exit()\nmain()'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, timeout=100)
    assert result.returncode == 0


def test_children_that_are_no_workers_are_waited_for() -> None:
    child = CHILD.replace('time.sleep(300)', "time.sleep(2); print('done', flush=True)").replace(
        '=True', '=False'
    )
    code = f'{child}exit.kill_workers_at_exit()\nmain()'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stdout) == (0, 'done\n')


def test_the_last_resort_has_the_right_status() -> None:
    code = (
        'import atexit, time; from dpt.engine import exit\n'
        'exit._PATIENCE = (0.5, 0.5); atexit.register(time.sleep, 300)\n'
        'with exit.ends_for_sure():\n    raise SystemExit(75)'
    )
    began = time.monotonic()
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=100)
    assert result.returncode == 75
    assert 'stuck' in result.stderr
    assert time.monotonic() - began < 90
