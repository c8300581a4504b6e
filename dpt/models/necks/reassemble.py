"""Reassemble blocks of DPT (Ranftl et al. 2021, arXiv 2103.13413, section 3)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dpt.models.layers import ConvModule

READOUTS = ('ignore', 'add', 'project')


class ReassembleBlocks(nn.Module):
    """Reassemble four taps into maps of 4, 2, 1 and 1/2 times the size of the patch grid.

    Args:
        in_channels: Channels of a token.
        out_channels: Channels of the four maps, finest first.
        readout_type: How to use the class token: ``'ignore'`` it, ``'add'`` it to each patch token, or
            concatenate it to each patch token and ``'project'`` the result with a linear layer and GELU.
        identity_levels: Levels (0 is the finest) whose tap already is a map and is returned unchanged.
        norm: ``'BN'`` for batch normalisation of the taps after the readout, or ``None``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Sequence[int],
        *,
        readout_type: str,
        identity_levels: Sequence[int] = (),
        norm: str | None = None,
    ) -> None:
        super().__init__()
        if readout_type not in READOUTS:
            raise ValueError(f'readout_type={readout_type!r} must be one of {READOUTS}')
        if norm not in (None, 'BN'):
            raise ValueError(f"tap_norm={norm!r} must be 'BN' or None")
        self.readout_type = readout_type
        self.identity_levels = frozenset(identity_levels)
        if not self.identity_levels <= set(range(4)):
            raise ValueError(f'identity_levels={tuple(identity_levels)} must be levels from 0 to 3')
        c0, c1, _, c3 = out_channels
        # nn.Identity placeholders keep the level's index in parameter names.
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
                lambda _: nn.Sequential(nn.Linear(2 * in_channels, in_channels), nn.GELU())
            )
        self.batchnorm_layers = self._levels(lambda _: nn.BatchNorm2d(in_channels)) if norm else None

    def _levels(self, build: Callable[[int], nn.Module]) -> nn.ModuleList:
        return nn.ModuleList(nn.Identity() if i in self.identity_levels else build(i) for i in range(4))

    def _read_out(self, tap: Tensor | tuple[Tensor, Tensor], level: int) -> Tensor:
        """Merge the class token into the map of a tap."""
        if self.readout_type == 'ignore':
            return tap if isinstance(tap, Tensor) else tap[0]
        feature_map, cls_token = tap
        if self.readout_type == 'add':
            return feature_map + cls_token[:, :, None, None]
        tokens = feature_map.flatten(2).transpose(1, 2)  # BxCxHxW -> BxNxC
        tokens = torch.cat([tokens, cls_token[:, None].expand_as(tokens)], dim=-1)
        return self.readout_projects[level](tokens).transpose(1, 2).unflatten(2, feature_map.shape[-2:])

    def forward(self, taps: Sequence) -> list[Tensor]:
        """Return the four maps, finest first."""
        for level, tap in enumerate(taps):
            is_map, identity = isinstance(tap, Tensor), level in self.identity_levels
            if identity and not is_map:
                raise ValueError(
                    f'tap {level} of the backbone has a class token: remove its level from identity_levels'
                )
            if is_map and not identity and self.readout_type != 'ignore':
                raise ValueError(
                    f'tap {level} of the backbone has no class token, but readout_type={self.readout_type!r} '
                    "needs one: set backbone.output_cls_token=True, use 'ignore', or add the levels of a "
                    'stem to identity_levels'
                )
        return [
            tap if level in self.identity_levels else self._reassemble(tap, level)
            for level, tap in enumerate(taps)
        ]

    def _reassemble(self, tap: Tensor | tuple[Tensor, Tensor], level: int) -> Tensor:
        x = self._read_out(tap, level)
        if self.batchnorm_layers is not None:
            x = self.batchnorm_layers[level](x)
        return self.resize_layers[level](self.projects[level](x))
