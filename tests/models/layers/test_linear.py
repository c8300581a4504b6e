"""The fast linear layer against torch's."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dpt.models.layers import Linear, PointwiseConv2d, linear
from dpt.models.layers.linear import _onednn_is_faster


class Convolutions(TorchDispatchMode):
    """Counts convolutions."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 'convolution' in str(function)
        return function(*args, **(kwargs or {}))


def convolutions(function, *args) -> tuple[torch.Tensor, int]:
    """Result of a function, and how many convolutions it ran."""
    with Convolutions() as counter:
        result = function(*args)
    return result, counter.count


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('bias', [True, False])
def test_values_and_gradients_are_torch_s(batch: int, bias: bool) -> None:
    torch.manual_seed(0)
    tokens = torch.randn(batch, 17, 12)[:, 1:].requires_grad_()  # as a tap is: not contiguous
    layer = Linear(12, 20, bias=bias)
    gradient = torch.randn(batch, 16, 20)
    inputs = (tokens, *layer.parameters())
    ours, theirs = layer(tokens), F.linear(tokens, layer.weight, layer.bias)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, gradient),
        torch.autograd.grad(theirs, inputs, gradient),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_a_pointwise_convolution_is_torch_s(memory_format) -> None:
    torch.manual_seed(0)
    layer = PointwiseConv2d(5, 7)
    x = torch.randn(2, 5, 6, 4).contiguous(memory_format=memory_format).requires_grad_()
    inputs = (x, *layer.parameters())
    ours, theirs = layer(x), F.conv2d(x, layer.weight, layer.bias)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(ours.sin().sum(), inputs),
        torch.autograd.grad(theirs.sin().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_float32_tokens_take_the_fast_way_and_nothing_else_does() -> None:
    tokens, weight = torch.randn(1, 4, 8), torch.randn(6, 8)
    assert convolutions(linear, tokens, weight)[1] == _onednn_is_faster()
    assert convolutions(linear, tokens.double(), weight.double())[1] == 0
    assert convolutions(linear, tokens[0], weight)[1] == 0
    with torch.autocast('cpu', torch.bfloat16):
        result, count = convolutions(linear, tokens, weight)
    assert count == 0
    assert result.dtype == torch.bfloat16


def test_exported_programs_hold_a_linear_layer() -> None:
    program = torch.export.export(Linear(8, 6), (torch.randn(1, 4, 8),))
    assert 'aten.linear' in str(program.graph)
    assert 'conv' not in str(program.graph)
