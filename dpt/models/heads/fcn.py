"""Convolutional classification head."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from dpt.models.layers import ConvModule
from dpt.registry import MODELS


@MODELS.register_module()
class FCNHead(BaseModule):
    """3x3 convolution with norm and ReLU, dropout, 1x1 classifier.

    With ``in_index=1``, the second-finest map, it is the auxiliary head of the original DPT.

    Args:
        in_channels: Channels of the fused maps.
        num_classes: Number of classes K, at least 2.
        channels: Channels before the classifier; ``None`` means ``in_channels``.
        in_index: Index of the map to classify; 0 is the finest.
        dropout_ratio: Dropout probability.
        channel_dropout: Whether to drop whole channels, as in MMSegmentation, or single elements, as in the
            original DPT.
        norm: ``'BN'``, ``'GN'`` (32 groups) or ``None``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        channels: int | None = None,
        in_index: int = 1,
        dropout_ratio: float = 0.1,
        channel_dropout: bool = True,
        norm: str | None = 'BN',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if num_classes < 2:
            raise ValueError(
                f'num_classes={num_classes} must be 2 or more: the softmax over one class is always 1, so '
                'count the background as a class'
            )
        channels = channels or in_channels
        self.num_classes = num_classes
        self.in_index = in_index
        self.project = ConvModule(in_channels, channels, kernel_size=3, norm=norm)
        self.dropout = nn.Dropout2d(dropout_ratio) if channel_dropout else nn.Dropout(dropout_ratio)
        self.conv_seg: nn.Module = nn.Conv2d(channels, num_classes, 1)

    def init_weights(self) -> None:
        """Initialise the classifier from N(0, 0.01), as in MMSegmentation; the rest uses torch's defaults.

        A classifier of another class than ``nn.Conv2d`` keeps its own initial weights.
        """
        if isinstance(self.conv_seg, nn.Conv2d):
            nn.init.normal_(self.conv_seg.weight, std=0.01)
            if self.conv_seg.bias is not None:
                nn.init.zeros_(self.conv_seg.bias)
        super().init_weights()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute logits.

        Args:
            maps: Fused maps, finest first.

        Returns:
            Logits of shape BxKxHxW at the size of ``maps[in_index]``.
        """
        return self.conv_seg(self.dropout(self.project(maps[self.in_index])))
