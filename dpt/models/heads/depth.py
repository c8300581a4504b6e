"""Depth head of DPT and of the models that build on it."""

from collections.abc import Sequence
from math import log

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from dpt.models.layers import ConvModule
from dpt.registry import MODELS

OUTPUTS = ('relu', 'sigmoid', 'exp', 'softplus', 'reciprocal', 'linear_bins', 'log_bins')
BIN_NORMS = ('linear', 'softmax', 'sigmoid')
SMALLEST_INVERSE = 1e-8
"""Smallest inverse depth whose reciprocal is taken, as in the original DPT."""


@MODELS.register_module()
class DepthHead(BaseModule):
    """Depth head of DPT: 3x3 convolution, upsampling, 3x3 convolution with ReLU, 1x1 convolution, depth.

    ``output`` maps the result x of the last convolution to depth, always in float32:

    - ``'relu'``: ``min_depth + relu(x)``. MiDaS and Depth Anything (relative), DINOv2 (1e-3).
    - ``'sigmoid'``: from ``min_depth`` to ``max_depth``. Depth Anything V2, metric.
    - ``'exp'``, ``'softplus'``: ``min_depth + exp(x)``, ``min_depth + log(1 + exp(x))``; never 0.
    - ``'reciprocal'``: ``1 / (scale * relu(x) + shift)``. The original DPT's weights for NYU and KITTI.
    - ``'linear_bins'``, ``'log_bins'``: mean of ``num_bins`` depths from ``min_depth`` to ``max_depth``,
      spaced evenly or evenly in the logarithm, weighted by the normalised x. DINOv2, DINOv3.

    Args:
        in_channels: Channels of the fused maps.
        output: See above.
        min_depth: Smallest depth, in the unit of the data set.
        max_depth: Largest depth, needed by ``'sigmoid'`` and bins.
        relative: Whether predictions are inverse depth up to an unknown scale and shift (larger is nearer),
            as in MiDaS and Depth Anything, instead of depth. Evaluation and pictures depend on it.
        channels: Channels after the first convolution; ``None`` means half of ``in_channels``.
        hidden_channels: Channels before the last convolution.
        project: Whether a 3x3 convolution with ReLU comes first, as in DINOv2.
        upsample_factor: Factor of the bilinear upsampling (align_corners=True) after the first convolution.
            The maps of ``DPTNeck`` have 8 times the size of the patch grid: 2 restores the size of the
            image for patch size 16, 1.75 for patch size 14.
        in_index: Index of the map to use; 0 is the finest.
        scale: Of ``'reciprocal'``.
        shift: Of ``'reciprocal'``.
        num_bins: Number of bins.
        bin_norm: How bins are weighted: ``'linear'`` (``relu(x) + 0.1``), ``'softmax'`` or ``'sigmoid'``.

    Raises:
        ValueError: If an argument is invalid or does not fit the others; the message names it.
    """

    bins: Tensor

    def __init__(
        self,
        in_channels: int,
        output: str = 'sigmoid',
        *,
        min_depth: float = 0.0,
        max_depth: float | None = None,
        relative: bool = False,
        channels: int | None = None,
        hidden_channels: int = 32,
        project: bool = False,
        upsample_factor: float = 2,
        in_index: int = 0,
        scale: float = 1.0,
        shift: float = 0.0,
        num_bins: int = 256,
        bin_norm: str = 'linear',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.output = output
        self.min_depth, self.max_depth = min_depth, max_depth
        self.relative = relative
        self.upsample_factor = upsample_factor
        self.in_index = in_index
        self.scale, self.shift = scale, shift
        self.bin_norm = bin_norm
        self._check()
        channels = channels or in_channels // 2
        if in_channels < 1 or channels < 1:
            raise ValueError(f'in_channels={in_channels} and channels={channels} must be 1 or more')
        self.project = ConvModule(in_channels, in_channels, kernel_size=3) if project else None
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, hidden_channels, 3, padding=1)
        self.conv_depth = nn.Conv2d(hidden_channels, num_bins if output.endswith('_bins') else 1, 1)
        self.register_buffer('bins', self._bins(num_bins), persistent=False)

    def init_weights(self) -> None:
        """Set the bias of the last convolution before a ReLU to 1; the rest uses torch's defaults.

        With those alone, the ReLU is 0 for every pixel in about half of all trainings, so that nothing gets a
        gradient.
        """
        if self.output in ('relu', 'reciprocal') and self.conv_depth.bias is not None:
            nn.init.ones_(self.conv_depth.bias)
        super().init_weights()

    def _check(self) -> None:
        if self.output not in OUTPUTS:
            raise ValueError(f'output={self.output!r} must be one of {OUTPUTS}')
        needs_range = self.output in ('sigmoid', 'linear_bins', 'log_bins')
        if needs_range and self.max_depth is None:
            raise ValueError(
                f'output={self.output!r} needs max_depth, the largest depth in the unit of the data set'
            )
        if not 0 <= self.min_depth < (self.max_depth or float('inf')):
            raise ValueError(
                f'min_depth={self.min_depth} and max_depth={self.max_depth} must be 0 <= min < max'
            )
        if self.output == 'log_bins' and not self.min_depth:
            raise ValueError("output='log_bins' needs min_depth above 0")
        if self.bin_norm not in BIN_NORMS:
            raise ValueError(f'bin_norm={self.bin_norm!r} must be one of {BIN_NORMS}')
        if self.relative and self.output not in ('relu', 'exp', 'softplus'):
            raise ValueError(
                f"output={self.output!r} predicts depth in a unit: use output='relu' with relative=True"
            )
        if self.upsample_factor < 1:
            raise ValueError(f'upsample_factor={self.upsample_factor} must be 1 (no upsampling) or more')

    def _bins(self, count: int) -> Tensor | None:
        if not self.output.endswith('_bins'):
            return None
        assert self.max_depth is not None
        if self.output == 'linear_bins':
            return torch.linspace(self.min_depth, self.max_depth, count)
        return torch.linspace(log(self.min_depth), log(self.max_depth), count).exp()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute depth.

        Args:
            maps: Fused maps, finest first.

        Returns:
            Float32 depth, or inverse depth if ``relative``, of shape Bx1xHxW at ``upsample_factor`` times
            the size of ``maps[in_index]``.
        """
        x = maps[self.in_index]
        if self.project is not None:
            x = self.project(x)
        x = self.conv1(x)
        if self.upsample_factor != 1:
            x = F.interpolate(x, scale_factor=self.upsample_factor, mode='bilinear', align_corners=True)
        x = self.conv_depth(F.relu(self.conv2(x)))
        return self._depth(x.float())  # half precision has too few digits for depth

    def _depth(self, x: Tensor) -> Tensor:
        if self.output == 'relu':
            return self.min_depth + F.relu(x)
        if self.output == 'sigmoid':
            assert self.max_depth is not None
            return self.min_depth + (self.max_depth - self.min_depth) * x.sigmoid()
        if self.output == 'exp':
            return self.min_depth + x.exp()
        if self.output == 'softplus':
            return self.min_depth + F.softplus(x)
        if self.output == 'reciprocal':
            return 1 / (self.scale * F.relu(x) + self.shift).clamp(min=SMALLEST_INVERSE)
        return self._mean_of_bins(x)

    def _mean_of_bins(self, x: Tensor) -> Tensor:
        if self.bin_norm == 'linear':
            weights = F.relu(x) + 0.1
        else:
            weights = x.softmax(dim=1) if self.bin_norm == 'softmax' else x.sigmoid()
        with torch.autocast(x.device.type, enabled=False):  # einsum would run in half precision
            depth = torch.einsum('bkhw,k->bhw', weights, self.bins.float())
        return (depth / weights.sum(dim=1))[:, None]
