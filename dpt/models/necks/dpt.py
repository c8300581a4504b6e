"""Reassemble and fusion blocks of DPT (Ranftl et al. 2021, arXiv 2103.13413, section 3)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from dpt.models.layers import (
    ConvModule,
    Linear,
    Rows,
    after_norm_relu,
    bands,
    differ,
    linear,
    predicts_on_cpu,
    recomputed,
    release_freed_memory,
    relu,
    resized,
    rows_of,
    with_context,
)
from dpt.registry import MODELS

READOUTS = ('ignore', 'add', 'project')


def upsample_by_two(x: Tensor) -> Tensor:
    """Upsample BxCxHxW maps by two, bilinear with align_corners=True."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)


def added(own: Tensor, x: Tensor) -> Tensor:
    """Return ``own + x`` in the memory of ``own``, a result that nobody else has and no gradient needs."""
    return own.add_(x) if own.dtype == x.dtype else own + x


class ReassembleBlocks(nn.Module):
    """Turn tokens of four taps into maps at 4, 2, 1 and 1/2 times the patch grid.

    Args:
        in_channels: Channels of a token.
        out_channels: Channels of the four maps, finest first.
        readout_type: What happens to the class token: ``'ignore'``, ``'add'`` to each patch token, or
            ``'project'`` it with each patch token through a linear layer with GELU.
        identity_levels: Levels, 0 for the finest, whose tap is a map already and is handed on as it is.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Sequence[int],
        *,
        readout_type: str,
        identity_levels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if readout_type not in READOUTS:
            raise ValueError(f'readout_type={readout_type!r} must be one of {READOUTS}')
        self.readout_type = readout_type
        self.identity_levels = frozenset(identity_levels)
        if not self.identity_levels <= set(range(4)):
            raise ValueError(f'identity_levels={tuple(identity_levels)} must be levels from 0 to 3')
        c0, c1, _, c3 = out_channels
        # Identities hold the places, so that a level's parameters bear its number.
        self.projects = self._levels(
            lambda i: ConvModule(in_channels, out_channels[i], kernel_size=1, act=False)
        )
        resize = (
            lambda: nn.ConvTranspose2d(c0, c0, 4, stride=4),
            lambda: nn.ConvTranspose2d(c1, c1, 2, stride=2),
            nn.Identity,
            lambda: nn.Conv2d(c3, c3, 3, stride=2, padding=1),
        )
        self.resize_layers = self._levels(lambda i: resize[i]())
        if readout_type == 'project':
            self.readout_projects = self._levels(
                lambda _: nn.Sequential(Linear(2 * in_channels, in_channels), nn.GELU())
            )

    def _levels(self, build: Callable[[int], nn.Module]) -> nn.ModuleList:
        return nn.ModuleList(nn.Identity() if i in self.identity_levels else build(i) for i in range(4))

    def _project(self, tap: Tensor | tuple[Tensor, Tensor], level: int) -> Tensor:
        """Read out the class token and bring the map to the level's channels."""
        project = self.projects[level]
        if self.readout_type == 'ignore':
            return project(tap if isinstance(tap, Tensor) else tap[0])
        feature_map, cls_token = tap
        if self.readout_type == 'add':
            return project(feature_map + cls_token[:, :, None, None])
        grid = feature_map.shape[-2:]
        tokens = feature_map.flatten(2).transpose(1, 2)  # BxNxC
        readout: nn.Sequential = self.readout_projects[level]  # type: ignore[assignment]
        first: Linear = readout[0]  # type: ignore[assignment]
        # A linear layer of two tokens side by side is the sum of one of each: the class token needs it once.
        of_patches, of_cls_token = first.weight.split(tokens.shape[-1], dim=1)
        tokens = linear(tokens, of_patches, first.bias) + F.linear(cls_token, of_cls_token)[:, None]
        return recomputed(readout[1], lambda x: project(x.transpose(1, 2).unflatten(2, grid)), tokens)

    def forward(self, taps: Sequence, levels: Sequence[int] = (0, 1, 2, 3)) -> list[Tensor]:
        """Return the maps of ``levels``, 0 for the finest."""
        return [
            taps[level]
            if level in self.identity_levels
            else self.resize_layers[level](_laid_out(self._project(taps[level], level), self.training))
            for level in levels
        ]


def _laid_out(x: Tensor, training: bool) -> Tensor:
    """Lay channels last on a CPU for predicting: convolutions then need no memory to rearrange maps.

    With gradients their backward passes would be slower, and statistics that a batch norm takes over such a
    map are a hundred times less exact.
    """
    if training or not predicts_on_cpu(x):
        return x
    # Strides of a channels-last map also for B = 1.
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


class PreActResidualConvUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU and before a norm, around an identity."""

    def __init__(self, channels: int, norm: str | None) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, kernel_size=3, norm=norm, act_first=True, bias=False)
        self.conv2 = ConvModule(channels, channels, kernel_size=3, norm=norm, act_first=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            y = F.relu_(self.conv1(x))
            y = self.conv2.conv(y)
            return added(y if self.conv2.bn is None else self.conv2.bn(y), x)
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
            path = added(self.res_conv_unit1(lateral), path)
            if not torch.is_grad_enabled():
                release_freed_memory(path.device)
        # Bilinear weights sum to one, so the 1x1 projection commutes with the upsampling that the paper puts
        # first; this way round it costs a quarter.
        path = self.project(self.res_conv_unit2(path))
        if not upsample:
            return path
        return upsample_by_two(path)

    def rows(self, path: Rows, lateral: Rows, height: int) -> Rows:
        """Return the result, not upsampled, of maps of ``height`` rows; norms must be in evaluation mode."""
        assert self.res_conv_unit1 is not None
        refined = with_context(self.res_conv_unit1, lateral, height, 2)

        def total(top: int, bottom: int) -> Tensor:
            return added(refined(top, bottom), path(top, bottom))

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

    def _lateral(self, taps: Sequence, level: int, path: Tensor | None) -> Tensor:
        """Return the level's map for the fusion, at the size of the coarser path."""
        if not torch.is_grad_enabled():
            release_freed_memory(next(self.parameters()).device)
        lateral = self.convs[level](self.reassemble_blocks(taps, (level,))[0])
        if path is not None and differ(lateral.shape[-2:], path.shape[-2:]):
            # Odd grids: the coarsest level rounded up. Pad the input so that this cannot happen.
            lateral = F.interpolate(lateral, path.shape[-2:], mode='bilinear', align_corners=False)
        return lateral

    def _finest_by_rows(self, coarse: Tensor, taps: Sequence) -> Tensor:
        """Fuse the finest level, holding the result alone whole; neither map is upsampled by its block."""
        release_freed_memory(coarse.device)
        (own,) = self.reassemble_blocks(taps, (0,))
        own_size = (own.shape[-2], own.shape[-1])
        narrow, size = (coarse.shape[-2], coarse.shape[-1]), (2 * coarse.shape[-2], 2 * coarse.shape[-1])
        path = resized(rows_of(coarse), narrow, size, align_corners=True)
        lateral = resized(with_context(self.convs[0], rows_of(own), own_size[0], 1), own_size, size)
        block: FeatureFusionBlock = self.fusion_blocks[3]  # type: ignore[assignment]
        rows = block.rows(path, lateral, size[0])
        shape = (len(coarse), coarse.shape[1], *size)
        fused = torch.empty(shape, dtype=coarse.dtype, memory_format=torch.channels_last)
        bytes_per_row = fused.element_size() * fused.numel() // size[0]
        for top, bottom in bands(size[0], bytes_per_row, coarse.device):
            fused[..., top:bottom, :] = rows(top, bottom)
        return fused

    def forward(
        self, taps: Sequence, *, upsample_finest: bool = True, finest_only: bool = False
    ) -> tuple[Tensor, ...]:
        """Fuse the taps.

        Args:
            taps: Four taps, shallow to deep: pairs of a map of shape BxCxhxw and a class token of shape BxC
                (maps alone for the levels of ``identity_levels``; they will do for the readout 'ignore').
            upsample_finest: Whether the finest map gets its last upsampling by two (bilinear,
                align_corners=True); without it, it is up to the caller, who may do it by rows.
            finest_only: Whether the finest map alone is returned, so that the others need not be held.

        Returns:
            Four maps with ``channels`` channels, finest first: 8, 4, 2 and 1 times the patch grid, that is
            strides 2, 4, 8 and 16 for patches of 16.

        Raises:
            ValueError: If there are not four taps, the readout needs class tokens that are not there, or a
                level of ``identity_levels`` comes with one.
        """
        self._check(taps)
        path = self.fusion_blocks[0](self._lateral(taps, 3, None))
        fused = [path]
        by_rows = finest_only and not upsample_finest and not self.training and predicts_on_cpu(path)
        for block, level in zip(self.fusion_blocks[1:], (2, 1, 0), strict=True):
            # Each level is assembled when it is needed: no two of them are held.
            if level == 0 and by_rows:
                return (self._finest_by_rows(path, taps),)
            upsample = upsample_finest if level == 0 else not (level == 1 and by_rows)
            path = block(path, self._lateral(taps, level, path), upsample=upsample)
            fused = [path] if finest_only else [path, *fused]
        return tuple(fused)
