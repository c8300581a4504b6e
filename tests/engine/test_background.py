"""Jobs in a background thread."""

import threading

import pytest

from dpt.engine.checkpointing import Background


def test_a_job_runs_in_the_background_and_the_next_waits() -> None:
    background, begin, order = Background(), threading.Event(), []

    def first() -> None:
        assert begin.wait(10)
        order.append('first')

    background.submit(first)
    background.check()  # does not wait
    assert order == []
    begin.set()
    background.submit(lambda: order.append('second'))
    background.join()
    assert order == ['first', 'second']


def test_an_error_of_a_job_is_raised_once() -> None:
    background = Background()

    def fail() -> None:
        raise OSError('disk full')

    background.submit(fail)
    with pytest.raises(OSError, match='disk full'):
        background.join()
    background.join()
    background.submit(fail)
    with pytest.raises(OSError, match='disk full'):
        background.submit(fail)
