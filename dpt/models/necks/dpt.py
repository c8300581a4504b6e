"""Neck of DPT (Ranftl et al. 2021, arXiv 2103.13413, section 3)."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from dpt.models.layers import ConvModule, resize
from dpt.models.necks.reassemble import ReassembleBlocks
from dpt.registry import MODELS


def upsample_by_two(x: Tensor) -> Tensor:
    """Upsample BxCxHxW maps by two, bilinear with align_corners=True."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)


class PreActResidualConvUnit(nn.Module):
    """Residual unit of two ReLU, 3x3 convolution and norm sequences."""

    def __init__(self, channels: int, norm: str | None) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, kernel_size=3, norm=norm, act_first=True, bias=False)
        self.conv2 = ConvModule(channels, channels, kernel_size=3, norm=norm, act_first=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + x


class FeatureFusionBlock(nn.Module):
    """Add a lateral map to the coarser path, then refine and project the sum at the same size.

    Args:
        channels: Channels of all maps.
        norm: ``'BN'``, ``'GN'`` (32 groups) or ``None``.
        lateral: Whether the block has a lateral map; the coarsest block has none.
    """

    def __init__(self, channels: int, norm: str | None, *, lateral: bool) -> None:
        super().__init__()
        self.res_conv_unit1 = PreActResidualConvUnit(channels, norm) if lateral else None
        self.res_conv_unit2 = PreActResidualConvUnit(channels, norm)
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
    """

    fusion_block: type[nn.Module] = FeatureFusionBlock
    """Class of the four fusion blocks, which subclasses may override. It takes the arguments of
    :class:`FeatureFusionBlock`. The neck upsamples its output by two unless it does so itself."""

    def __init__(
        self,
        in_channels: int = 768,
        channels: int = 256,
        *,
        post_process_channels: Sequence[int] = (96, 192, 384, 768),
        readout_type: str = 'project',
        identity_levels: Sequence[int] = (),
        norm: str | None = 'BN',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if len(post_process_channels) != 4:
            raise ValueError(f'post_process_channels={tuple(post_process_channels)} must be four numbers')
        self.reassemble_blocks = ReassembleBlocks(
            in_channels,
            post_process_channels,
            readout_type=readout_type,
            identity_levels=identity_levels,
        )
        self.convs = nn.ModuleList(
            ConvModule(c, channels, kernel_size=3, act=False, bias=False) for c in post_process_channels
        )
        # Coarse to fine; the coarsest block has no lateral input.
        self.fusion_blocks = nn.ModuleList(self.fusion_block(channels, norm, lateral=i > 0) for i in range(4))

    def forward(self, taps: Sequence) -> tuple[Tensor, ...]:
        """Fuse the taps.

        Args:
            taps: Four taps, shallow to deep: pairs of a map of shape BxCxhxw and a class token of shape BxC.
                Levels in ``identity_levels`` take maps only; the readout 'ignore' accepts both.

        Returns:
            Four maps with ``channels`` channels, finest first, of 8, 4, 2 and 1 times the size of the patch
            grid (strides 2, 4, 8 and 16 for patch size 16).

        Raises:
            ValueError: If there are not four taps, a required class token is missing, a level in
                ``identity_levels`` has a class token, or a fusion block returns a map of another size.
        """
        if len(taps) != 4:
            raise ValueError(f'DPTNeck needs four taps, got {len(taps)}: set backbone.out_indices')
        laterals = [conv(x) for conv, x in zip(self.convs, self.reassemble_blocks(taps), strict=True)]
        path = self._fuse(0, laterals[3])
        fused = [path]
        for i, lateral in enumerate(laterals[2::-1], start=1):
            # With odd patch grids the coarsest level is rounded up. Padding the input avoids this.
            path = self._fuse(i, path, resize(lateral, path.shape[-2:]))
            fused = [path, *fused]
        return tuple(fused)

    def _fuse(self, i: int, *maps: Tensor) -> Tensor:
        fused = self.fusion_blocks[i](*maps)
        height, width = maps[0].shape[-2:]
        if fused.shape[-2:] == (2 * height, 2 * width):  # a user's block that upsamples itself
            return fused
        if fused.shape[-2:] != (height, width):
            raise ValueError(
                f'{type(self).__name__}.fusion_blocks.{i} changes the size of its map from {height}x{width} '
                f'to {fused.shape[-2]}x{fused.shape[-1]}: fusion blocks keep the size, and the neck '
                'upsamples their output by two, or they upsample by two themselves'
            )
        # The paper upsamples before the 1x1 projection of the block. The two commute, because bilinear
        # weights sum to one, and this order costs a quarter.
        return upsample_by_two(fused)
