"""Segmentation head of DPT."""

from dpt.models.heads.fcn import FCNHead
from dpt.registry import MODELS


@MODELS.register_module()
class DPTHead(FCNHead):
    """Classify the finest fused map: 3x3 convolution with norm and ReLU, dropout, 1x1 classifier."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        channels: int | None = None,
        dropout_ratio: float = 0.1,
        norm: str | None = 'BN',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            channels=channels,
            in_index=0,
            dropout_ratio=dropout_ratio,
            norm=norm,
            init_cfg=init_cfg,
        )
