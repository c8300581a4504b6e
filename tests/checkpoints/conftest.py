"""Checkpoint files of random tensors."""

import pytest
import torch
from safetensors.torch import save_file
from tiny_checkpoints import random_tensors


@pytest.fixture
def save(tmp_path):
    """Write random tensors of the given shapes, changed by ``edit``; return path and tensors."""

    def write(shapes, edit=lambda tensors: None, suffix='.pth'):
        tensors = random_tensors(shapes)
        edit(tensors)
        path = tmp_path / f'weights{suffix}'
        save_file(tensors, path) if suffix == '.safetensors' else torch.save(tensors, path)
        return path, tensors

    return write
