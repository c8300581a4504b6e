"""Data sets inside loaders, and how their workers begin."""

import signal

import pytest

from dpt.config.walk import innermost_datasets
from dpt.engine.stop import begin_worker


def test_data_sets_are_found_inside_wrappers() -> None:
    first, second = dict(type='ADE20KDataset'), dict(type='CamVidDataset')
    joined = dict(type='ConcatDataset', datasets=[first, dict(type='RepeatDataset', dataset=second, times=2)])
    assert innermost_datasets(joined) == [first, second]
    assert innermost_datasets(None) == []


def test_a_list_instead_of_a_data_set_is_refused() -> None:
    with pytest.raises(
        ValueError, match="a dict was expected; several data sets are dict\\(type='ConcatDataset'"
    ):
        innermost_datasets([dict(type='ADE20KDataset')])


def test_a_worker_ignores_the_signals_before_its_own_function() -> None:
    done: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    try:
        begin_worker(lambda worker: done.append(worker), [signal.SIGUSR1], 3)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert done == [3]
    begin_worker(None, [], 0)
