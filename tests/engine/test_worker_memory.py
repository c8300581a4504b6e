"""Memory that loader workers keep."""

import resource
import subprocess
import sys

import pytest

from dpt.engine import worker_memory

# The module alone: what else would be imported frees large blocks, after which glibc keeps memory by itself.
PROGRAM = """
import resource, runpy, sys
import numpy as np

if sys.argv[1] == 'keep' and not runpy.run_path(sys.argv[2])['keep_freed_memory']():
    raise SystemExit(7)
make = lambda: [np.ones(side * side * 3, np.uint8) for side in (700, 512, 600)]
make()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    make()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, how, worker_memory.__file__], capture_output=True, text=True
    )
    if done.returncode == 7:
        pytest.skip('the C library is not glibc')
    return int(done.stdout)


def test_images_of_a_worker_take_the_pages_of_those_before() -> None:
    pages = 20 * 700 * 700 * 3 // resource.getpagesize()
    assert faults('let go') > pages / 2
    assert faults('keep') < pages / 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_memory.ctypes, 'CDLL', lambda name: object())
    assert not worker_memory.keep_freed_memory()
