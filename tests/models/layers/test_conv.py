"""Convolution with norm and activation."""

import pytest
import torch
from torch import nn

from dpt.models.layers import ConvModule, normed


def statistics(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Fill a norm with numbers that a training might have gathered."""
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.1, 2.0)
    return norm


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_a_norm_in_place_is_the_norm(memory_format: torch.memory_format) -> None:
    norm = statistics(nn.BatchNorm2d(5)).eval()
    x = torch.randn(2, 5, 4, 3).contiguous(memory_format=memory_format)
    expected = norm(x)
    with torch.no_grad():
        y = normed(x, norm)
    assert y.data_ptr() == x.data_ptr()
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('reason', ['gradients', 'statistics', 'another type', 'no weight', 'none'])
def test_otherwise_the_input_stays(reason: str) -> None:
    norm = statistics(nn.BatchNorm2d(5)).train(reason == 'statistics')
    if reason == 'no weight':
        norm = nn.BatchNorm2d(5, affine=False).eval()
    x = torch.randn(2, 5, 4, 3, dtype=torch.bfloat16 if reason == 'another type' else torch.float32)
    before = x.clone()
    with torch.set_grad_enabled(reason == 'gradients'):
        y = normed(x, None if reason == 'none' else norm)
    assert torch.equal(x, before)
    assert (y is x) == (reason == 'none')


@pytest.mark.parametrize('norm', ['BN', None])
@pytest.mark.parametrize('act_first', [True, False])
def test_a_prediction_is_the_same_with_and_without_gradients(norm: str | None, act_first: bool) -> None:
    module = ConvModule(3, 5, kernel_size=3, norm=norm, act_first=act_first).eval()
    if module.bn is not None:
        statistics(module.bn)
    x = torch.randn(1, 3, 6, 7)
    before = x.clone()
    expected = module(x)
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(x, before)
