"""Batch norm over the batches of two processes, which equals batch norm over their joint batch."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from dpt.engine.sync_bn import SyncBatchNorm, use_sync_batch_norm

PARTS = ((0, 2), (2, 5))
"""The images of each process: their numbers may differ."""
SCALE = torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(2))


def batch() -> torch.Tensor:
    return torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * 3 + 50


def model(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.BatchNorm2d(3), nn.Tanh(), nn.BatchNorm2d(3, affine=False, momentum=None))
    nn.init.uniform_(layers[0].weight)
    return layers.to(dtype)


def run(layers: nn.Module, images: torch.Tensor, scale: torch.Tensor) -> list[torch.Tensor]:
    images.requires_grad_()
    out = layers(images)
    (out * scale).sum().backward()
    buffers = [buffer.double() for buffer in layers.buffers()]
    return [out.detach(), images.grad, layers[0].weight.grad, layers[0].bias.grad, *buffers]


def process(rank: int, folder: Path, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / 'store'), 2)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    layers = model(dtype)
    use_sync_batch_norm(layers)
    own = slice(*PARTS[rank])
    found = run(layers, batch().to(dtype)[own], SCALE.to(dtype)[own])
    torch.save(found, folder / f'{rank}.pth')


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_two_processes_equal_one_with_the_joint_batch(
    dtype: torch.dtype, tolerance: float, tmp_path: Path
) -> None:
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=process, args=(rank, tmp_path, dtype)) for rank in range(2)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(60)
        assert one.exitcode == 0
    results = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    expected = run(model(torch.float64), batch().double(), SCALE.double())
    outputs, gradients, weights, biases, *buffers = zip(*results, strict=True)
    joint = [torch.cat(outputs), torch.cat(gradients), sum(weights), sum(biases)]
    joint += [one for one, other in buffers if torch.equal(one, other)]
    for found, wanted in zip(joint, expected, strict=True):
        error = (found.double() - wanted).abs().max() / wanted.abs().max()
        assert error < tolerance


def test_state_and_evaluation_are_those_of_batch_norm() -> None:
    plain, layers = model(torch.float32).eval(), model(torch.float32).eval()
    use_sync_batch_norm(layers)
    assert isinstance(layers[0], SyncBatchNorm)
    assert layers.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(layers(batch()), plain(batch()))


def test_a_batch_norm_with_more_in_it_is_refused() -> None:
    class WithActivation(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match="cannot replace 0, a WithActivation: use sync_bn='torch'"):
        use_sync_batch_norm(nn.Sequential(WithActivation(3)))
