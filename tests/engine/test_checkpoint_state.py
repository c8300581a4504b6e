"""Checkpoints contain plain data only, copied before the training continues."""

import collections

import numpy as np
import pytest
import torch

from dpt.engine.checkpointing import HostCopies, plain, plain_entries


def test_plain_keeps_values_and_containers(tmp_path) -> None:
    value = {'a': (1, [np.float64(2.5), np.int64(3)]), 'b': torch.ones(2), 'c': np.arange(3), 4: None}
    copy = plain(collections.OrderedDict(value))
    torch.save(copy, tmp_path / 'plain.pth')
    loaded = torch.load(tmp_path / 'plain.pth', weights_only=True)
    assert loaded['a'] == (1, [2.5, 3])
    assert torch.equal(loaded['b'], torch.ones(2))
    assert loaded['c'].tolist() == [0, 1, 2]
    assert loaded[4] is None


def test_other_objects_are_rejected_or_dropped() -> None:
    with pytest.raises(TypeError, match='deque'):
        plain({'a': [collections.deque()]})
    assert plain_entries({'a': 1, 'b': collections.deque()}) == ({'a': 1}, {'b': 'deque is not plain data'})


def test_copies_are_independent_and_reuse_their_memory() -> None:
    live, copies = dict(a=torch.ones(3), b=[torch.zeros(2, 2, dtype=torch.float64), 'text']), HostCopies()
    first = copies.of(live)
    live['a'].add_(1)
    assert first['a'].tolist() == [1, 1, 1]
    assert first['b'][1] == 'text'
    memory = first['a'].data_ptr()
    assert copies.of(live)['a'].data_ptr() == memory
    assert first['a'].tolist() == [2, 2, 2]
    other = copies.of(dict(a=torch.ones(5), c=torch.ones(2, 2, dtype=torch.float64)))
    assert other['a'].shape == (5,)
    assert other['c'].dtype == torch.float64
