"""Bilinear resizing a band of rows at a time: pure functions, so that nothing large is ever held whole.

``Rows`` is a map that can be asked for any band: ``rows(top, bottom)`` returns the rows from ``top`` to
``bottom - 1`` of a tensor of shape ...xHxW. Functions here turn one such map into another.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dpt.eager import eager_on_cpu

Rows = Callable[[int, int], Tensor]
Size = tuple[int, int]
Row = TypeVar('Row', float, Tensor)

CPU_BAND_BYTES = 16 << 20
"""Small against a whole map, large against the rows that neighbouring bands both need."""
GPU_BAND_BYTES = 256 << 20
"""Large enough that the number of kernels does not matter."""


def predicts_on_cpu(x: Tensor) -> bool:
    """Return whether ``x`` is on a CPU, without gradients, where parts of it may be computed one by one."""
    return eager_on_cpu(x.device) and not torch.is_grad_enabled()


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


def _source(row: Row, size_in: int, size_out: int, align_corners: bool) -> Row:
    """Return where rows of the result lie in the source: numbers or a tensor, in torch's arithmetic."""
    if align_corners:
        return row * ((size_in - 1) / max(size_out - 1, 1))
    return (row + 0.5) * (size_in / size_out) - 0.5


def source_rows(top: int, bottom: int, size_in: int, size_out: int, *, align_corners: bool = False) -> slice:
    """Return the rows of the source from which those from ``top`` to ``bottom - 1`` of the result come."""
    first, last = (_source(row, size_in, size_out, align_corners) for row in (top, bottom - 1))
    return slice(min(max(int(first), 0), size_in - 1), min(max(int(last), 0) + 2, size_in))


def row_weights(
    top: int,
    bottom: int,
    size_in: int,
    size_out: int,
    *,
    align_corners: bool = False,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return both source rows of each row of the result, and the second's weight.

    Rows are counted from the first of :func:`source_rows`. All are made on ``device``, so that the host never
    waits for it. Weights are of ``dtype``.
    """
    span = source_rows(top, bottom, size_in, size_out, align_corners=align_corners)
    rows = torch.arange(top, bottom, dtype=dtype, device=device)
    source = _source(rows, size_in, size_out, align_corners).clamp_(min=0)
    lower = source.long().clamp_(max=size_in - 1)
    weight = source - lower
    # Single precision may name a row that double precision does not ask for: its weight is next to nothing.
    lower = (lower - span.start).clamp_(0, span.stop - span.start - 1)
    return lower, (lower + 1).clamp_(max=span.stop - span.start - 1), weight


def _take_rows(x: Tensor, index: Tensor) -> Tensor:
    """Pick rows of a BxCxHxW tensor and keep its memory format: channels last is what is fast on a CPU."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).index_select(1, index).permute(0, 3, 1, 2)
    return x.index_select(-2, index)


def resized_height(rows: Rows, height: int, new_height: int, *, align_corners: bool = False) -> Rows:
    """Resize a map of ``height`` rows bilinearly to ``new_height``, but not its columns."""
    if height == new_height:
        return rows

    def band(top: int, bottom: int) -> Tensor:
        span = source_rows(top, bottom, height, new_height, align_corners=align_corners)
        source = rows(span.start, span.stop)
        dtype = torch.promote_types(source.dtype, torch.float32)
        lower, upper, weight = row_weights(
            top, bottom, height, new_height, align_corners=align_corners, device=source.device, dtype=dtype
        )
        x, other = _take_rows(source, lower), _take_rows(source, upper)
        # In the memory of the rows just picked.
        return x.to(dtype).lerp_(other.to(dtype), weight[:, None]).to(source.dtype)

    return band


def resized_width(x: Tensor, width: int, *, align_corners: bool = False) -> Tensor:
    """Resize the columns of a BxCxHxW tensor bilinearly: each row of the result comes from its own alone."""
    if x.shape[-1] == width:
        return x
    return F.interpolate(x, size=(x.shape[-2], width), mode='bilinear', align_corners=align_corners)


def resized(rows: Rows, size: Size, new_size: Size, *, align_corners: bool = False) -> Rows:
    """Resize bilinearly, as ``torch.nn.functional.interpolate`` does with ``size=new_size``.

    Args:
        rows: Map of shape BxCxHxW.
        size: Its (height, width).
        new_size: (height, width) of the result.
        align_corners: As in ``interpolate``.
    """
    narrow = resized_height(rows, size[0], new_size[0], align_corners=align_corners)
    if size[1] == new_size[1]:
        return narrow
    return lambda top, bottom: resized_width(narrow(top, bottom), new_size[1], align_corners=align_corners)


def with_context(function: Callable[[Tensor], Tensor], rows: Rows, height: int, context: int) -> Rows:
    """Apply a convolutional ``function`` that keeps the size and sees ``context`` rows to either side.

    Rows beyond a band are handed in and their results dropped, so that zero padding acts at the map's own
    borders only.
    """

    def band(top: int, bottom: int) -> Tensor:
        start, stop = max(top - context, 0), min(bottom + context, height)
        return function(rows(start, stop))[..., top - start : bottom - start, :]

    return band
