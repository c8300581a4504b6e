"""Neck of DPT (Ranftl et al. 2021, arXiv 2103.13413, section 3)."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from dpt.models.layers import ConvModule, resize
from dpt.models.necks.reassemble import ReassembleBlocks
from dpt.registry import MODELS

ODD_GRIDS = ('path', 'lateral')


def upsample(x: Tensor, size: Sequence | None = None) -> Tensor:
    """Upsample BxCxHxW maps by two or to ``size``, bilinear with align_corners=True."""
    if size is None:
        return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=True)


class PreActResidualConvUnit(nn.Module):
    """Residual unit of two ReLU, 3x3 convolution and norm sequences."""

    def __init__(self, channels: int, norm: str | None, *, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, kernel_size=3, norm=norm, act_first=True, bias=bias)
        self.conv2 = ConvModule(channels, channels, kernel_size=3, norm=norm, act_first=True, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + x


class FeatureFusionBlock(nn.Module):
    """Add a lateral map to the coarser path, then refine and project the sum at the same size.

    Args:
        channels: Channels of all maps.
        norm: ``'BN'``, ``'GN'`` (32 groups) or ``None``.
        lateral: Whether the block has a lateral map; the coarsest block has none.
        residual_bias: Whether the convolutions of the residual units have biases.
    """

    def __init__(
        self, channels: int, norm: str | None, *, lateral: bool, residual_bias: bool = False
    ) -> None:
        super().__init__()
        self.res_conv_unit1 = PreActResidualConvUnit(channels, norm, bias=residual_bias) if lateral else None
        self.res_conv_unit2 = PreActResidualConvUnit(channels, norm, bias=residual_bias)
        self.project = ConvModule(channels, channels, kernel_size=1, act=False)

    def forward(self, path: Tensor, lateral: Tensor | None = None) -> Tensor:
        if lateral is not None and self.res_conv_unit1 is not None:
            path = path + self.res_conv_unit1(lateral)
        return self.project(self.res_conv_unit2(path))


@MODELS.register_module()
class DPTNeck(BaseModule):
    """Reassemble four taps of a ViT into feature maps and fuse them from coarse to fine.

    Args:
        in_channels: Channels of the backbone's tokens.
        channels: Channels of the fused maps.
        post_process_channels: Channels of the reassembled maps, finest first.
        readout_type: ``'ignore'``, ``'add'`` or ``'project'``; the last two need the class token.
        identity_levels: Levels (0 is the finest) whose tap skips the reassemble block: it already is a map of
            that level's size with its ``post_process_channels``. Use (0, 1) for a hybrid backbone.
        norm: Norm of the residual units: ``'BN'``, ``'GN'`` (32 groups) or ``None``.
        tap_norm: Norm of the taps, ``'BN'`` in the depth models of DINOv3, or ``None``.
        residual_bias: Whether the convolutions of the residual units have biases, as in the original DPT
            without norm, Depth Anything and transformers; MMSegmentation and DINOv2 have none.
        odd_grids: Which of two maps is resized where they differ in size, because the coarsest one of an odd
            patch grid is rounded up. ``'path'``: the lateral map is resized to the path, as in
            MMSegmentation, so that the finest map has 8 times the size of the rounded grid. ``'lateral'``:
            the path is upsampled to the size of the lateral map, as in Depth Anything, so that the finest
            map has exactly 8 times the size of the patch grid.
    """

    fusion_block: type[nn.Module] = FeatureFusionBlock
    """Class of the four fusion blocks, which subclasses may override. It takes the arguments of
    :class:`FeatureFusionBlock`, ``residual_bias`` only if it is true. The neck upsamples its output by two
    unless it does so itself."""

    def __init__(
        self,
        in_channels: int = 768,
        channels: int = 256,
        *,
        post_process_channels: Sequence[int] = (96, 192, 384, 768),
        readout_type: str = 'project',
        identity_levels: Sequence[int] = (),
        norm: str | None = 'BN',
        tap_norm: str | None = None,
        residual_bias: bool = False,
        odd_grids: str = 'path',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if odd_grids not in ODD_GRIDS:
            raise ValueError(f'odd_grids={odd_grids!r} must be one of {ODD_GRIDS}')
        self.odd_grids = odd_grids
        if len(post_process_channels) != 4:
            raise ValueError(f'post_process_channels={tuple(post_process_channels)} must be four numbers')
        self.reassemble_blocks = ReassembleBlocks(
            in_channels,
            post_process_channels,
            readout_type=readout_type,
            identity_levels=identity_levels,
            norm=tap_norm,
        )
        self.convs = nn.ModuleList(
            ConvModule(c, channels, kernel_size=3, act=False, bias=False) for c in post_process_channels
        )
        # Coarse to fine; the coarsest block has no lateral input.
        options = dict(residual_bias=True) if residual_bias else {}
        self.fusion_blocks = nn.ModuleList(
            self.fusion_block(channels, norm, lateral=i > 0, **options) for i in range(4)
        )

    def forward(self, taps: Sequence) -> tuple[Tensor, ...]:
        """Fuse the taps.

        Args:
            taps: Four taps, shallow to deep: pairs of a map of shape BxCxhxw and a class token of shape BxC.
                Levels in ``identity_levels`` take maps only; the readout 'ignore' accepts both.

        Returns:
            Four maps with ``channels`` channels, finest first, of 8, 4, 2 and 1 times the size of the patch
            grid (strides 2, 4, 8 and 16 for patch size 16); for odd grids see ``odd_grids``.

        Raises:
            ValueError: If there are not four taps, a required class token is missing, a level in
                ``identity_levels`` has a class token, or a fusion block returns a map of another size.
        """
        if len(taps) != 4:
            raise ValueError(f'DPTNeck needs four taps, got {len(taps)}: set backbone.out_indices')
        laterals = [conv(x) for conv, x in zip(self.convs, self.reassemble_blocks(taps), strict=True)]
        path = self._fuse(0, laterals[3:], self._size_of(laterals, 2))
        fused = [path]
        for i, lateral in enumerate(laterals[2::-1], start=1):
            lateral = resize(lateral, path.shape[-2:])
            path = self._fuse(i, (path, lateral), self._size_of(laterals, 2 - i))
            fused = [path, *fused]
        return tuple(fused)

    def _size_of(self, laterals: Sequence[Tensor], level: int) -> Sequence | None:
        """Return the size to upsample to, or ``None`` for twice the size."""
        return laterals[level].shape[-2:] if self.odd_grids == 'lateral' and level >= 0 else None

    def _fuse(self, i: int, maps: Sequence[Tensor], size: Sequence | None) -> Tensor:
        fused = self.fusion_blocks[i](*maps)
        height, width = maps[0].shape[-2:]
        if fused.shape[-2:] == (2 * height, 2 * width):  # a user's block that upsamples itself
            return fused if size is None else resize(fused, size)
        if fused.shape[-2:] != (height, width):
            raise ValueError(
                f'{type(self).__name__}.fusion_blocks.{i} changes the size of its map from {height}x{width} '
                f'to {fused.shape[-2]}x{fused.shape[-1]}: fusion blocks keep the size, and the neck '
                'upsamples their output by two, or they upsample by two themselves'
            )
        # The paper upsamples before the 1x1 projection of the block. The two commute, because bilinear
        # weights sum to one, and this order costs a quarter.
        return upsample(fused, size)
