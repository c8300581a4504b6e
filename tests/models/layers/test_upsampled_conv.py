"""Upsampling and convolution by rows: equal to both on the whole map."""

import pytest
import torch
import torch.nn.functional as F

from dpt.models.layers import upsampled_conv


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('band', [1, 5000, 1 << 20])  # bytes: a row, a few rows, the whole
@pytest.mark.parametrize('size', [(5, 7), (1, 4), (16, 9)])
@pytest.mark.parametrize('with_bias', [True, False])
def test_value_and_gradients(
    size: tuple,
    band: int,
    with_bias: bool,
    memory_format: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('dpt.models.layers.rows.CPU_BAND_BYTES', band)
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64).contiguous(memory_format=memory_format)
    tensors = [x, torch.randn(4, 3, 3, 3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)]
    tensors = [tensor.requires_grad_() for tensor in tensors[: 3 if with_bias else 2]]
    fine = F.interpolate(tensors[0], scale_factor=2, mode='bilinear', align_corners=True)
    expected = F.conv2d(fine, *tensors[1:], padding=1)
    y = upsampled_conv(*tensors)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)  # double precision all the way
    weight = torch.randn_like(y)
    ours, theirs = (torch.autograd.grad((z * weight).sum(), tensors) for z in (y, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
