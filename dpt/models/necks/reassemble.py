"""Reassemble blocks of DPT (Ranftl et al. 2021, arXiv 2103.13413, section 3): from tokens to maps."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dpt.models.layers import ConvModule, Linear, linear, predicts_on_cpu, recomputed

READOUTS = ('ignore', 'add', 'project')


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
