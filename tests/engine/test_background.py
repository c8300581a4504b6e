"""Work beside the training."""

import threading

import pytest

from dpt.engine.checkpointing import Background


def test_a_job_runs_meanwhile_and_the_next_one_waits_for_it() -> None:
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


def test_what_a_job_raises_is_raised_once() -> None:
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
