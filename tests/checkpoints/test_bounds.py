"""What would become far larger than its file is refused before it does."""

import zipfile

import numpy as np
import pytest
import torch

from dpt.checkpoints import read_checkpoint
from dpt.checkpoints.bounds import FREE, LARGEST_RATIO, check_archive, check_tensors, leaves
from dpt.checkpoints.read import holds_unread


def test_a_bomb_is_told_by_its_directory_alone(tmp_path):
    path = tmp_path / 'x.npz'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a.npy', bytes(FREE + (2 << 20)))
    with pytest.raises(ValueError, match=r'x\.npz: refused, .* would become 69,206,016'):
        check_archive(path)


def test_compressed_weights_are_no_bomb(tmp_path):
    arrays = {
        'a': np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32),
        'b': np.zeros(10**6),
    }
    np.savez_compressed(tmp_path / 'x.npz', **arrays)
    assert set(read_checkpoint(tmp_path / 'x.npz')) == {'a', 'b'}


def test_expanded_tensors_count_as_what_they_become(tmp_path):
    path = tmp_path / 'x.pth'
    large = torch.ones(1).expand(FREE)
    for content in ({'a': large}, {'state_dict': {'a': [large]}}):
        torch.save(content, path)
        with pytest.raises(ValueError, match='when copied'):
            read_checkpoint(path)
    torch.save({'a': torch.ones(3, 1).expand(3, 1000)}, path)
    assert read_checkpoint(path)['a'].shape == (3, 1000)


def test_tied_weights_may_be_named_more_than_once(tmp_path):
    tied = torch.rand(FREE // 4)
    path = tmp_path / 'x.pth'
    torch.save({'a': tied, 'b': tied}, path)
    check_tensors(path, torch.load(path))
    assert LARGEST_RATIO > 2


def test_nested_lists_are_walked_once_and_to_any_depth(tmp_path):  # else for ever, or RecursionError
    doubled, deep = [1], [2]
    for _ in range(200):
        doubled = [doubled, doubled]
    for _ in range(100_000):
        deep = [deep]
    assert list(leaves({'x': doubled})) == [1]
    assert list(leaves(deep)) == [2]
    torch.save({'meta': doubled}, tmp_path / 'x.pth')
    assert not holds_unread(read_checkpoint(tmp_path / 'x.pth'))
