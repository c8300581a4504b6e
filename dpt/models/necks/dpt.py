"""Neck of DPT (Ranftl et al. 2021, arXiv 2103.13413, section 3)."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from dpt.models.layers import ConvModule, sizes_differ
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
    """Add a lateral map to the coarser path, refine, and upsample by two."""

    def __init__(self, channels: int, norm: str | None, *, lateral: bool) -> None:
        super().__init__()
        self.res_conv_unit1 = PreActResidualConvUnit(channels, norm) if lateral else None
        self.res_conv_unit2 = PreActResidualConvUnit(channels, norm)
        self.project = ConvModule(channels, channels, kernel_size=1, act=False)

    def forward(self, path: Tensor, lateral: Tensor | None = None) -> Tensor:
        if lateral is not None and self.res_conv_unit1 is not None:
            path = path + self.res_conv_unit1(lateral)
        # The paper upsamples first. The 1x1 projection commutes with bilinear upsampling, because its weights
        # sum to one, and costs a quarter in this order.
        return upsample_by_two(self.project(self.res_conv_unit2(path)))


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
        self.fusion_blocks = nn.ModuleList(
            FeatureFusionBlock(channels, norm, lateral=i > 0) for i in range(4)
        )

    def forward(self, taps: Sequence) -> tuple[Tensor, ...]:
        """Fuse the taps.

        Args:
            taps: Four taps, shallow to deep: pairs of a map of shape BxCxhxw and a class token of shape BxC.
                Levels in ``identity_levels`` take maps only; the readout 'ignore' accepts both.

        Returns:
            Four maps with ``channels`` channels, finest first, of 8, 4, 2 and 1 times the size of the patch
            grid (strides 2, 4, 8 and 16 for patch size 16).

        Raises:
            ValueError: If there are not four taps, a required class token is missing, or a level in
                ``identity_levels`` has a class token.
        """
        if len(taps) != 4:
            raise ValueError(f'DPTNeck needs four taps, got {len(taps)}: set backbone.out_indices')
        laterals = [conv(x) for conv, x in zip(self.convs, self.reassemble_blocks(taps), strict=True)]
        path = self.fusion_blocks[0](laterals[3])
        fused = [path]
        for block, lateral in zip(self.fusion_blocks[1:], laterals[2::-1], strict=True):
            if sizes_differ(lateral.shape[-2:], path.shape[-2:]):
                # Odd patch grids: the coarsest level is rounded up. Padding the input avoids this.
                lateral = F.interpolate(lateral, path.shape[-2:], mode='bilinear', align_corners=False)
            path = block(path, lateral)
            fused = [path, *fused]
        return tuple(fused)
