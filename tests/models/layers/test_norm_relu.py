"""Norm, ReLU and what follows: the modules' values and gradients, from the input alone."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpt.models.layers import PointwiseConv2d, after_norm_relu, classified
from dpt.models.layers.norm_relu import relu

FORMATS = [torch.contiguous_format, torch.channels_last]


def run(function: Callable, memory_format: torch.memory_format) -> tuple[list[Tensor], nn.Module]:
    """Return the result, all gradients, and the norm that has gathered statistics."""
    torch.manual_seed(0)
    norm, conv = nn.BatchNorm2d(6).double(), PointwiseConv2d(6, 3).double()
    nn.init.uniform_(norm.weight)
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    gain = torch.tensor([0.0, 2, 1, 0.5, 2, 2], dtype=torch.float64).repeat(2, 1)[..., None, None]
    y = function(x, norm, conv, gain)
    tensors = (x, *norm.parameters(), *conv.parameters())
    return [y.detach(), *torch.autograd.grad(y.square().sum(), tensors)], norm


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('chunk', [1, 600, 1 << 20])  # bytes: channel by channel, two at a time, all
@pytest.mark.parametrize(
    'function', [lambda x, norm, conv, gain: after_norm_relu(conv, x, norm, gain), classified]
)
def test_values_gradients_and_statistics_are_those_of_the_modules(
    function: Callable, chunk: int, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('dpt.models.layers.norm_relu.CHUNK_BYTES', chunk)
    ours, norm = run(function, memory_format)
    expected, reference = run(lambda x, norm, conv, gain: conv(F.relu(norm(x)) * gain), memory_format)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other)
    for name, buffer in reference.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), buffer)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize('function', [lambda x, norm, conv: after_norm_relu(conv, x, norm), classified])
def test_between_the_passes_the_input_alone_is_kept(function: Callable) -> None:
    norm, conv = nn.BatchNorm2d(6), PointwiseConv2d(6, 3)
    x, kept = torch.randn(2, 6, 16, 16, requires_grad=True), set()
    extra = () if function is not classified else (None,)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.add((tensor.untyped_storage().data_ptr(), tensor.numel())) or tensor, lambda t: t
    ):
        y = function(x, norm, conv, *extra)
    assert y.requires_grad
    assert {numel for pointer, numel in kept if pointer != x.data_ptr()} <= {6, 18}


@pytest.mark.parametrize('mode', ['no norm', 'evaluation', 'no gradient'])
def test_other_modes_are_the_modules(mode: str) -> None:
    norm, conv, x = nn.BatchNorm2d(6), PointwiseConv2d(6, 3), torch.randn(2, 6, 5, 7)
    norm.train(mode != 'evaluation')
    with torch.set_grad_enabled(mode != 'no gradient'):
        normed = x if mode == 'no norm' else norm(x)
        y = classified(x, None if mode == 'no norm' else norm, conv, None)
    torch.testing.assert_close(y, conv(F.relu(normed)))


def test_relu_has_no_gradient_at_zero() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    assert torch.equal(torch.autograd.grad(relu(x).sum(), x)[0], torch.tensor([0.0, 0.0, 1.0]))
