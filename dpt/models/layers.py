"""Layers shared by backbones, necks and heads."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32
"""Groups of group normalisation (Wu and He 2018, arXiv 1803.08494)."""


class ConvModule(nn.Module):
    """3x3 or 1x1 convolution that keeps the spatial size, with optional norm and activation.

    The submodules are named ``conv`` and ``bn`` or ``gn``, as in mmcv, to keep checkpoint keys compatible.

    Args:
        in_channels: Channels of the input, of shape BxCxHxW.
        out_channels: Channels of the output.
        kernel_size: Odd side of the kernel; the input is padded by half of it.
        norm: ``'BN'`` for batch normalisation, ``'GN'`` for group normalisation with 32 groups, or ``None``.
        act: Whether to apply ReLU.
        act_first: Whether to apply ReLU before the convolution (pre-activation) instead of after the norm.
        bias: Whether the convolution has a bias; ``None`` adds a bias only without a norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        norm: str | None = None,
        act: bool = True,
        act_first: bool = False,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        if norm not in (None, 'BN', 'GN'):
            raise ValueError(
                f"norm={norm!r} is not supported: use 'BN' (SyncBN on several GPUs), 'GN' or None"
            )
        if norm == 'GN' and out_channels % GROUPS:
            raise ValueError(f"norm='GN' needs channels divisible by {GROUPS}, got {out_channels}: use 'BN'")
        bias = norm is None if bias is None else bias
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.bn = nn.BatchNorm2d(out_channels) if norm == 'BN' else None
        self.gn = nn.GroupNorm(GROUPS, out_channels) if norm == 'GN' else None
        self.act = nn.ReLU() if act else nn.Identity()
        self.act_first = act_first

    def forward(self, x: Tensor) -> Tensor:
        if self.act_first:
            x = self.act(x)
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        if self.gn is not None:
            x = self.gn(x)
        return x if self.act_first else self.act(x)


class DropPath(nn.Module):
    """Drop a residual branch per sample with probability ``drop_prob`` during training.

    Kept branches are scaled by ``1 / (1 - drop_prob)``. Source: Huang et al. 2016, arXiv 1603.09382.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        if not 0.0 <= drop_prob < 1.0:
            raise ValueError(f'drop_prob must be in [0, 1), got {drop_prob}')
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1.0 - self.drop_prob
        mask = torch.empty(x.shape[0], *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device)
        return x * mask.bernoulli_(keep).div_(keep)


def image_size(img_size: int | Sequence[int]) -> tuple[int, int]:
    """Return ``img_size`` as (height, width); a single number means a square image.

    Raises:
        ValueError: If it is neither a positive integer nor a pair of them.
    """
    sides = (img_size, img_size) if isinstance(img_size, int) else img_size
    pair = isinstance(sides, Sequence) and len(sides) == 2
    if not pair or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f'img_size={img_size!r} must be a positive integer or (height, width)')
    return sides[0], sides[1]


def pad_to_multiple(x: Tensor, divisor: int) -> Tensor:
    """Pad BxCxHxW maps with zeros at the bottom and right so that both sides are multiples of ``divisor``."""
    # torch.compile cannot generate code for -n % d with symbolic n.
    height, width = ((divisor - length % divisor) % divisor for length in x.shape[-2:])
    return F.pad(x, (0, width, 0, height))


def sizes_differ(size: Sequence, other: Sequence) -> bool:
    """Return whether two sizes differ; always true while tracing or exporting with symbolic sizes.

    A graph traced through ``if sizes_differ(a, b): resize`` therefore always contains the resize; it has no
    effect for equal sizes.
    """
    lengths = (*size, *other)
    symbolic = torch.jit.is_tracing() or any(isinstance(length, torch.SymInt) for length in lengths)
    return symbolic or tuple(size) != tuple(other)


def resize(x: Tensor, size: Sequence, *, mode: str = 'bilinear', align_corners: bool = False) -> Tensor:
    """Resize BxCxHxW maps to ``size`` (height, width)."""
    if sizes_differ(x.shape[-2:], size):
        x = F.interpolate(x, size=tuple(size), mode=mode, align_corners=align_corners)
    return x


def resize_pos_embed(
    pos_embed: Tensor,
    native: tuple[int, int],
    grid: tuple[int, int],
    mode: str,
    num_extra_tokens: int,
    *,
    offset: float = 0.0,
) -> Tensor:
    """Resize a position embedding to another patch grid, keeping the entries of extra tokens.

    Args:
        pos_embed: Tensor of shape 1xNxC: ``num_extra_tokens`` entries, then the grid in row-major order.
        native: Patch grid (height, width) of ``pos_embed``.
        grid: Patch grid (height, width) to resize to.
        mode: ``'bicubic'`` (MMSegmentation) or ``'bilinear'`` (original DPT), both with align_corners=False.
        num_extra_tokens: Number of leading entries outside the grid, such as the class token.
        offset: Added to ``grid`` in the scale factor of the interpolation: 0.1 in the original DINOv2 without
            registers, whose weights were trained so.

    Returns:
        Tensor of shape 1xN'xC for the new grid.
    """
    if not sizes_differ(grid, native):
        return pos_embed
    extra, patches = pos_embed[:, :num_extra_tokens], pos_embed[:, num_extra_tokens:]
    patches = patches.reshape(1, *native, -1).permute(0, 3, 1, 2)  # 1xCxHxW
    if offset:
        scale = ((grid[0] + offset) / native[0], (grid[1] + offset) / native[1])
        patches = F.interpolate(patches, scale_factor=scale, mode=mode, align_corners=False)
    else:
        patches = F.interpolate(patches, size=grid, mode=mode, align_corners=False)
    return torch.cat([extra, patches.flatten(2).transpose(1, 2)], dim=1)
