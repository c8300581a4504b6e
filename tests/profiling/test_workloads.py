"""The batches that are measured."""

import pytest
import torch

from dpt.extras.profiling.workloads import random_batch


@pytest.mark.parametrize('gpu', [False, True])
def test_a_batch_lies_where_a_loader_puts_it(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Size] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.shape)
        return tensor

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    monkeypatch.setattr(torch.Tensor, 'pin_memory', pin)
    random_batch((8, 8), 2, 3)
    assert sorted(pinned) == (2 * [(1, 8, 8)] + 2 * [(3, 8, 8)] if gpu else [])
