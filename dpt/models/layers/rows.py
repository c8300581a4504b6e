"""Bilinear resizing a band of rows at a time: pure functions, so that nothing large is ever held whole.

``Rows`` is a map that can be asked for any band: ``rows(top, bottom)`` returns the rows from ``top`` to
``bottom - 1`` of a tensor of shape ...xHxW. Functions here turn one such map into another.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

Rows = Callable[[int, int], Tensor]
Size = tuple[int, int]

CPU_BAND_BYTES = 32 << 20
"""Small against a whole map, large against the rows that neighbouring bands both need."""
GPU_BAND_BYTES = 256 << 20
"""Large enough that the number of kernels does not matter."""


def bands(height: int, bytes_per_row: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """Yield (top, bottom) of bands that cover ``height`` rows, within the device's budget of bytes."""
    budget = CPU_BAND_BYTES if device.type == 'cpu' else GPU_BAND_BYTES
    step = min(max(budget // max(bytes_per_row, 1), 1), height)
    count = -(-height // step)
    for i in range(count):  # of equal heights but for rounding: no narrow last band
        yield height * i // count, height * (i + 1) // count


def rows_of(x: Tensor) -> Rows:
    """Return the rows of a tensor at hand."""
    return lambda top, bottom: x[..., top:bottom, :]


def _neighbours(
    top: int, bottom: int, size_in: int, size_out: int, align_corners: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return both source rows of some rows of the result, and the second's weight, in torch's arithmetic."""
    rows = torch.arange(top, bottom, dtype=torch.float32)
    if align_corners:
        source = rows * ((size_in - 1) / max(size_out - 1, 1))
    else:
        source = ((rows + 0.5) * (size_in / size_out) - 0.5).clamp_(min=0)
    lower = source.long().clamp_(max=size_in - 1)
    upper = (lower + 1).clamp_(max=size_in - 1)
    return lower, upper, source - lower


def _take_rows(x: Tensor, index: Tensor) -> Tensor:
    """Pick rows of a BxCxHxW tensor and keep its memory format: channels last is what is fast on a CPU."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).index_select(1, index).permute(0, 3, 1, 2)
    return x.index_select(-2, index)


def resized(rows: Rows, size: Size, new_size: Size, *, align_corners: bool = False) -> Rows:
    """Resize bilinearly, as ``torch.nn.functional.interpolate`` does with ``size=new_size``.

    Args:
        rows: Map of shape BxCxHxW.
        size: Its (height, width).
        new_size: (height, width) of the result.
        align_corners: As in ``interpolate``.
    """
    if tuple(size) == tuple(new_size):
        return rows

    def resized_height(top: int, bottom: int) -> Tensor:
        lower, upper, weight = _neighbours(top, bottom, size[0], new_size[0], align_corners)
        start = int(lower[0])
        source = rows(start, int(upper[-1]) + 1)
        x = _take_rows(source, (lower - start).to(source.device))
        other = _take_rows(source, (upper - start).to(source.device))
        weight = weight[:, None].to(source.device)
        return torch.lerp(x.float(), other.float(), weight).to(source.dtype)

    def band(top: int, bottom: int) -> Tensor:
        x = rows(top, bottom) if size[0] == new_size[0] else resized_height(top, bottom)
        if size[1] == new_size[1]:
            return x
        # The height stays, so that each row of the result comes from its own row alone.
        return F.interpolate(
            x, size=(bottom - top, new_size[1]), mode='bilinear', align_corners=align_corners
        )

    return band


def with_context(function: Callable[[Tensor], Tensor], rows: Rows, height: int, context: int) -> Rows:
    """Apply a convolutional ``function`` that keeps the size and sees ``context`` rows to either side.

    Rows beyond a band are handed in and their results dropped, so that zero padding acts at the map's own
    borders only.
    """

    def band(top: int, bottom: int) -> Tensor:
        start, stop = max(top - context, 0), min(bottom + context, height)
        return function(rows(start, stop))[..., top - start : bottom - start, :]

    return band
