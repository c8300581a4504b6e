"""Resizing by rows against torch's own resizing of the whole."""

import pytest
import torch
import torch.nn.functional as F

from dpt.models.layers import bands, resized, rows_of, with_context

CPU = torch.device('cpu')


def all_rows(rows, height: int, step: int) -> torch.Tensor:
    return torch.cat([rows(top, min(top + step, height)) for top in range(0, height, step)], dim=-2)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(
    ('size', 'new_size'),
    [((7, 9), (15, 33)), ((64, 40), (31, 23)), ((20, 20), (20, 41)), ((1, 5), (3, 7)), ((9, 8), (1, 8))],
)
@pytest.mark.parametrize('step', [1, 4, 100])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_bands_put_together_are_the_whole(
    size, new_size, align_corners: bool, step: int, memory_format
) -> None:
    x = torch.randn(2, 3, *size).contiguous(memory_format=memory_format)
    whole = F.interpolate(x, size=new_size, mode='bilinear', align_corners=align_corners)
    rows = resized(rows_of(x), size, new_size, align_corners=align_corners)
    # A row that single precision puts just before another takes 4e-6 of the one before; it may be left out.
    torch.testing.assert_close(all_rows(rows, new_size[0], step), whole, rtol=0, atol=2e-5)


def test_only_the_rows_that_are_needed_are_asked_for() -> None:
    asked = []
    x = torch.randn(1, 1, 50, 4)

    def source(top: int, bottom: int) -> torch.Tensor:
        asked.append((top, bottom))
        return x[..., top:bottom, :]

    resized(source, (50, 4), (100, 8))(40, 48)
    assert asked == [(19, 25)]


@pytest.mark.parametrize('step', [1, 3, 8])
def test_context_makes_a_convolution_of_bands_that_of_the_whole(step: int) -> None:
    conv = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3, padding=1), torch.nn.Conv2d(3, 1, 1))
    x = torch.randn(1, 2, 8, 6)
    with torch.no_grad():
        whole = all_rows(with_context(conv, rows_of(x), 8, 1), 8, step)
        torch.testing.assert_close(whole, conv(x), rtol=0, atol=1e-6)
        assert not torch.allclose(all_rows(with_context(conv, rows_of(x), 8, 0), 8, 1), conv(x), atol=1e-3)


@pytest.mark.parametrize(('height', 'bytes_per_row'), [(1, 1), (10, 1 << 40), (97, 1 << 20), (5, 0)])
def test_bands_cover_every_row_once(height: int, bytes_per_row: int) -> None:
    edges = list(bands(height, bytes_per_row, CPU))
    assert edges[0][0] == 0
    assert edges[-1][1] == height
    assert all(one[1] == other[0] for one, other in zip(edges, edges[1:], strict=False))
    assert all(top < bottom for top, bottom in edges)


def test_half_precision_is_resized_in_single_precision() -> None:
    x = torch.randn(1, 2, 5, 6).bfloat16()
    rows = resized(rows_of(x), (5, 6), (9, 6))(0, 9)
    whole = F.interpolate(x.float(), size=(9, 6), mode='bilinear', align_corners=False)
    assert rows.dtype == torch.bfloat16
    torch.testing.assert_close(rows.float(), whole, rtol=2**-8, atol=1e-6)  # one rounding, at the end
