"""Segmentation head of DPT."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from dpt.models.heads.fcn import FCNHead
from dpt.registry import MODELS


@MODELS.register_module()
class DPTHead(FCNHead):
    """Segmentation head of DPT: 3x3 convolution with norm and ReLU, dropout, 1x1 classifier.

    Args:
        in_channels: Channels of the fused maps.
        num_classes: Number of classes K.
        channels: Channels before the classifier; ``None`` means ``in_channels``.
        dropout_ratio: Dropout probability.
        channel_dropout: Whether to drop whole channels, as in MMSegmentation, or single elements, as in the
            original DPT.
        upsample_factor: Factor of the bilinear upsampling of the logits (align_corners=True): 2 in the
            original DPT, which restores the input size, 1.75 for patch size 14 in UniMatch V2, 1 (no
            upsampling) in MMSegmentation.
        norm: ``'BN'``, ``'GN'`` (32 groups) or ``None``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        channels: int | None = None,
        dropout_ratio: float = 0.1,
        channel_dropout: bool = True,
        upsample_factor: float = 1,
        norm: str | None = 'BN',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            channels=channels,
            in_index=0,
            dropout_ratio=dropout_ratio,
            channel_dropout=channel_dropout,
            norm=norm,
            init_cfg=init_cfg,
        )
        if upsample_factor < 1:
            raise ValueError(f'upsample_factor={upsample_factor} must be 1 (no upsampling) or more')
        self.upsample_factor = upsample_factor

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits of shape BxKxHxW at ``upsample_factor`` times the size of the finest map."""
        logits = super().forward(maps)
        if self.upsample_factor == 1:
            return logits
        return F.interpolate(logits, scale_factor=self.upsample_factor, mode='bilinear', align_corners=True)
