"""Fusion blocks and neck of DPT (Ranftl et al. 2021, arXiv 2103.13413, section 3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from dpt.models.layers import (
    ConvModule,
    Rows,
    added,
    after_norm_relu,
    bands,
    differ,
    is_watched,
    normed,
    predicts_on_cpu,
    recomputed,
    release_freed_memory,
    relu,
    resized,
    rows_of,
    with_context,
)
from dpt.models.necks.reassemble import ReassembleBlocks
from dpt.registry import MODELS


def upsample_by_two(x: Tensor) -> Tensor:
    """Upsample BxCxHxW maps by two, bilinear with align_corners=True."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)


class PreActResidualConvUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU and before a norm, around an identity."""

    def __init__(self, channels: int, norm: str | None) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, kernel_size=3, norm=norm, act_first=True, bias=False)
        self.conv2 = ConvModule(channels, channels, kernel_size=3, norm=norm, act_first=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if is_watched(self):
            return self.conv2(self.conv1(x)) + x
        if not torch.is_grad_enabled():
            y = self.conv2.conv(F.relu_(self.conv1(x)))
            return added(normed(y, self.conv2.bn), x)
        # Inputs of convolutions are computed again in the backward pass, from what the norms keep anyway.
        y = recomputed(relu, self.conv1.conv, x)
        y = after_norm_relu(self.conv2.conv, y, self.conv1.bn)
        return added(y if self.conv2.bn is None else self.conv2.bn(y), x)


class FeatureFusionBlock(nn.Module):
    """Add a lateral map to the coarser path, refine, and upsample by two."""

    def __init__(self, channels: int, norm: str | None, *, lateral: bool) -> None:
        super().__init__()
        self.res_conv_unit1 = PreActResidualConvUnit(channels, norm) if lateral else None
        self.res_conv_unit2 = PreActResidualConvUnit(channels, norm)
        self.project = ConvModule(channels, channels, kernel_size=1, act=False)

    def forward(self, path: Tensor, lateral: Tensor | None = None, *, upsample: bool = True) -> Tensor:
        if self.res_conv_unit1 is not None and lateral is not None:
            path = self._sum(self.res_conv_unit1(lateral), path)
            if not torch.is_grad_enabled():
                release_freed_memory(path.device)
        # Bilinear weights sum to one, so the 1x1 projection commutes with the upsampling that the paper puts
        # first; this way round it costs a quarter.
        path = self.project(self.res_conv_unit2(path))
        if not upsample:
            return path
        return upsample_by_two(path)

    def _sum(self, refined: Tensor, path: Tensor) -> Tensor:
        assert self.res_conv_unit1 is not None
        return refined + path if is_watched(self.res_conv_unit1) else added(refined, path)

    def rows(self, path: Rows, lateral: Rows, height: int) -> Rows:
        """Return the result, not upsampled, of maps of ``height`` rows; norms must be in evaluation mode."""
        assert self.res_conv_unit1 is not None
        refined = with_context(self.res_conv_unit1, lateral, height, 2)

        def total(top: int, bottom: int) -> Tensor:
            return self._sum(refined(top, bottom), path(top, bottom))

        return with_context(lambda x: self.project(self.res_conv_unit2(x)), total, height, 2)


@MODELS.register_module()
class DPTNeck(BaseModule):
    """From four taps of a ViT to fused maps.

    Args:
        in_channels: Channels of the backbone's tokens; levels of ``identity_levels`` have those of
            ``post_process_channels``.
        channels: Channels of every fused map.
        post_process_channels: Channels of the reassembled maps, finest first.
        readout_type: ``'ignore'``, ``'add'`` or ``'project'``; the last two need the class token.
        identity_levels: Levels, 0 for the finest, whose tap is a map at that level's size already and goes
            neither through a readout nor through a projection: (0, 1) for a hybrid backbone, whose stem makes
            them.
        norm: ``'BN'`` or ``None`` in the residual units.
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
            raise ValueError(f'post_process_channels={tuple(post_process_channels)} must hold four numbers')
        self.reassemble_blocks = ReassembleBlocks(
            in_channels,
            post_process_channels,
            readout_type=readout_type,
            identity_levels=identity_levels,
        )
        self.convs = nn.ModuleList(
            ConvModule(c, channels, kernel_size=3, act=False, bias=False) for c in post_process_channels
        )
        # Coarse to fine; the coarsest block has no lateral.
        self.fusion_blocks = nn.ModuleList(
            FeatureFusionBlock(channels, norm, lateral=i > 0) for i in range(4)
        )

    @staticmethod
    def upsample_finest(coarse: Tensor) -> Tensor:
        """Upsample the finest map of :meth:`forward` with ``upsample_finest=False``."""
        return upsample_by_two(coarse)

    def _check(self, taps: Sequence) -> None:
        if len(taps) != 4:
            raise ValueError(f'DPTNeck needs four taps, got {len(taps)}: set backbone.out_indices')
        readout = self.reassemble_blocks.readout_type
        for level, tap in enumerate(taps):
            is_map, identity = isinstance(tap, Tensor), level in self.reassemble_blocks.identity_levels
            if identity and not is_map:
                raise ValueError(
                    f'tap {level} of the backbone has a class token, so it may not be in identity_levels'
                )
            if is_map and not identity and readout != 'ignore':
                raise ValueError(
                    f'tap {level} of the backbone is a map alone: readout_type={readout!r} needs '
                    "backbone.output_cls_token=True, or use 'ignore'; maps of a stem go into identity_levels"
                )

    def _reassembled(self, taps: Sequence, level: int, release: bool) -> list[Tensor]:
        maps = self.reassemble_blocks(taps, (level,))
        if release:
            taps[level] = None  # type: ignore[index]
        return maps

    def _lateral(self, taps: Sequence, level: int, path: Tensor | None, release: bool) -> Tensor:
        """Return the level's map for the fusion, at the size of the coarser path."""
        if not torch.is_grad_enabled():
            release_freed_memory(next(self.parameters()).device)
        lateral = self.convs[level](self._reassembled(taps, level, release)[0])
        if path is not None and differ(lateral.shape[-2:], path.shape[-2:]):
            # Odd grids: the coarsest level rounded up. Pad the input so that this cannot happen.
            lateral = F.interpolate(lateral, path.shape[-2:], mode='bilinear', align_corners=False)
        return lateral

    def _finest_by_rows(self, coarse: Tensor, taps: Sequence, release: bool) -> Tensor:
        """Fuse the finest level, holding the result alone whole; neither map is upsampled by its block."""
        release_freed_memory(coarse.device)
        (own,) = self._reassembled(taps, 0, release)
        own_size = (own.shape[-2], own.shape[-1])
        narrow, size = (coarse.shape[-2], coarse.shape[-1]), (2 * coarse.shape[-2], 2 * coarse.shape[-1])
        path = resized(rows_of(coarse), narrow, size, align_corners=True)
        lateral = resized(with_context(self.convs[0], rows_of(own), own_size[0], 1), own_size, size)
        block: FeatureFusionBlock = self.fusion_blocks[3]  # type: ignore[assignment]
        rows = block.rows(path, lateral, size[0])
        shape = (len(coarse), coarse.shape[1], *size)
        fused = torch.empty(shape, dtype=coarse.dtype, memory_format=torch.channels_last)
        bytes_per_row = fused.element_size() * fused.numel() // size[0]
        edges = list(bands(size[0], bytes_per_row, coarse.device))
        if len(edges) > 1:  # smaller ones, then: several maps of a band's size are in use at once
            edges = list(bands(size[0], 2 * bytes_per_row, coarse.device))
        for top, bottom in edges:
            fused[..., top:bottom, :] = rows(top, bottom)
            if bottom < size[0]:
                release_freed_memory(coarse.device)
        return fused

    def forward(
        self,
        taps: Sequence,
        *,
        upsample_finest: bool = True,
        finest_only: bool = False,
        release: bool = False,
    ) -> tuple[Tensor, ...]:
        """Fuse the taps.

        Args:
            taps: Four taps, shallow to deep: pairs of a map of shape BxCxhxw and a class token of shape BxC
                (maps alone for the levels of ``identity_levels``; they will do for the readout 'ignore').
            upsample_finest: Whether the finest map gets its last upsampling by two (bilinear,
                align_corners=True); without it, it is up to the caller, who may do it by rows.
            finest_only: Whether the finest map alone is returned, so that the others need not be held.
            release: Whether ``taps``, a list, lets go of each tap once it is reassembled.

        Returns:
            Four maps with ``channels`` channels, finest first: 8, 4, 2 and 1 times the patch grid, that is
            strides 2, 4, 8 and 16 for patches of 16.

        Raises:
            ValueError: If there are not four taps, the readout needs class tokens that are not there, or a
                level of ``identity_levels`` comes with one.
        """
        self._check(taps)
        path = self.fusion_blocks[0](self._lateral(taps, 3, None, release))
        fused = [path]
        by_rows = finest_only and not upsample_finest and not self.training and predicts_on_cpu(path)
        for block, level in zip(self.fusion_blocks[1:], (2, 1, 0), strict=True):
            # Each level is assembled when it is needed: no two of them are held.
            if level == 0 and by_rows:
                return (self._finest_by_rows(path, taps, release),)
            upsample = upsample_finest if level == 0 else not (level == 1 and by_rows)
            path = block(path, self._lateral(taps, level, path, release), upsample=upsample)
            fused = [path] if finest_only else [path, *fused]
        return tuple(fused)
