"""A convolution of a map upsampled by two, a band of rows at a time: the upsampled map is never held."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from dpt.models.layers.rows import bands, resized, row_weights, rows_of, source_rows, with_context

MAPS_AT_A_TIME = 4
"""How many maps of a band's size may be in use at once: the band, its gradients, what kernels rearrange."""


def _fine(coarse: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    size = (coarse.shape[-2], coarse.shape[-1])
    return size, (2 * size[0], 2 * size[1])


class _UpsampledConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, coarse: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(coarse, weight)
        ctx.has_bias = bias is not None
        size, fine = _fine(coarse)
        finest = resized(rows_of(coarse), size, fine, align_corners=True)
        rows = with_context(lambda x: F.conv2d(x, weight, bias, padding=1), finest, fine[0], 1)
        y = coarse.new_empty(len(coarse), len(weight), *fine)
        for top, bottom in _bands(coarse):
            y[..., top:bottom, :] = rows(top, bottom)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        coarse, weight = ctx.saved_tensors
        size, fine = _fine(coarse)
        finest = resized(rows_of(coarse), size, fine, align_corners=True)
        of_coarse, of_weight = torch.zeros_like(coarse), torch.zeros_like(weight)
        for top, bottom in _bands(coarse):
            start, stop = max(top - 1, 0), min(bottom + 1, fine[0])
            # Rows of the result beyond the band belong to other bands: no gradient comes from them here.
            band = F.pad(gradient[..., top:bottom, :], (0, 0, top - start, stop - bottom))
            of_band, of_weight_here, _ = torch.ops.aten.convolution_backward(
                band,
                finest(start, stop),
                weight,
                None,
                [1, 1],
                [1, 1],
                [1, 1],
                False,
                [0, 0],
                1,
                [True, True, False],
            )
            of_weight += of_weight_here
            _add_upsampled_backward(of_coarse, of_band, start, stop)
        return of_coarse, of_weight, gradient.sum((0, 2, 3)) if ctx.has_bias else None


def _bands(coarse: Tensor) -> Any:
    _, fine = _fine(coarse)
    bytes_per_row = coarse.element_size() * len(coarse) * coarse.shape[1] * fine[1]
    return bands(fine[0], MAPS_AT_A_TIME * bytes_per_row, coarse.device)


def _add_upsampled_backward(of_coarse: Tensor, of_rows: Tensor, top: int, bottom: int) -> None:
    """Add to the gradient of a map what comes from rows ``top`` to ``bottom - 1`` of it upsampled by two."""
    size, fine = _fine(of_coarse)
    shape = [*of_rows.shape[:-1], size[1]]
    narrow = torch.ops.aten.upsample_bilinear2d_backward(
        of_rows, [bottom - top, fine[1]], shape, True, None, None
    )
    span = source_rows(top, bottom, size[0], fine[0], align_corners=True)
    lower, upper, share = row_weights(
        top, bottom, size[0], fine[0], align_corners=True, device=of_coarse.device, dtype=narrow.dtype
    )
    of_upper = narrow * share[:, None]
    of_coarse[..., span, :].index_add_(2, upper, of_upper).index_add_(2, lower, narrow.sub_(of_upper))


def upsampled_conv(coarse: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Upsample by two, bilinear with align_corners=True, and convolve with zero padding, keeping the size.

    Equal to ``interpolate`` and ``conv2d`` up to rounding; neither pass holds the upsampled map, and
    ``coarse`` alone is kept.

    Args:
        coarse: Tensor of shape BxCxhxw.
        weight: Filters of shape OxCx3x3.
        bias: Tensor of O numbers, or ``None``.

    Returns:
        Tensor of shape BxOx2hx2w, differentiable once.
    """
    return _UpsampledConv.apply(coarse, weight, bias)
