"""Vision Transformer with a ResNet stem: the hybrid of Dosovitskiy et al. 2020, arXiv 2010.11929."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dpt.models.backbones.resnet_stem import ResNetStage, RootBlock, WSConv2d
from dpt.models.backbones.vit import VisionTransformer
from dpt.models.layers import image_size, pad_to_multiple
from dpt.models.lora import add_lora
from dpt.registry import MODELS

STRIDE = 16  # of the stem: 2 each in the first convolution, the pooling and the last two stages


@MODELS.register_module()
class HybridVisionTransformer(VisionTransformer):
    """ViT on the features of a ResNet-50 without its last stage, the backbone of DPT-Hybrid.

    It returns the outputs of the stem's first two stages at strides 4 and 8, and those of the transformer
    layers ``out_indices`` at stride 16.

    Args:
        img_size: Size in pixels of the pretraining images; it sets the native grid of the position embedding
            (384 / 16 -> 24x24).
        in_channels: Channels of the image.
        stem_channels: Channels of the first convolution. They and a quarter of each of ``stage_channels``
            must be multiples of the 32 groups of GroupNorm.
        stage_channels: Channels of the three stages at strides 4, 8 and 16.
        stage_depths: Number of blocks in each of the three stages.
        weight_eps: Epsilon added to the standard deviation in weight standardisation: 1e-5 in timm 0.4.5,
            which trained DPT-Hybrid.
        eps_in_variance: Whether ``weight_eps`` is added to the variance instead. Current timm and
            transformers add 1e-8 to it.
        out_indices: 0-based, ascending indices of the transformer layers whose output is returned.
        vit: Other arguments of :class:`VisionTransformer` except ``patch_size``. ``frozen_stages`` counts
            transformer layers; 0 or more freezes the stem. ``with_cp`` also checkpoints the three stages.

    Raises:
        ValueError: If an argument is invalid or does not fit the others; the message names it.
    """

    embedding_modules = ('patch_embed', 'drop_after_pos', 'stem', 'stages')

    def __init__(
        self,
        img_size: int | tuple[int, int] = 384,
        *,
        in_channels: int = 3,
        stem_channels: int = 64,
        stage_channels: Sequence[int] = (256, 512, 1024),
        stage_depths: Sequence[int] = (3, 4, 9),
        weight_eps: float = 1e-5,
        eps_in_variance: bool = False,
        out_indices: Sequence[int] = (8, 11),
        **vit: Any,
    ) -> None:
        if len(stage_channels) != 3 or len(stage_depths) != 3 or min(stage_depths) < 1:
            raise ValueError(
                f'stage_channels={tuple(stage_channels)} and stage_depths={tuple(stage_depths)} must each '
                'contain three positive numbers'
            )
        if 'patch_size' in vit:
            raise ValueError(f'HybridVisionTransformer takes no patch_size: its stem has stride {STRIDE}')
        lora = vit.pop('lora', None)
        height, width = image_size(img_size)
        # The transformer treats the stem's output as an image with patches of one pixel.
        super().__init__(
            (height // STRIDE, width // STRIDE),
            1,
            in_channels=stage_channels[-1],
            out_indices=out_indices,
            **vit,
        )
        self.stem = RootBlock(in_channels, stem_channels, weight_eps=weight_eps)
        channels = (stem_channels, *stage_channels)
        self.stages = nn.ModuleList(
            ResNetStage(
                channels[i],
                channels[i + 1],
                depth=stage_depths[i],
                stride=1 if i == 0 else 2,
                weight_eps=weight_eps,
            )
            for i in range(3)
        )
        for module in self.modules():
            if isinstance(module, WSConv2d):
                module.eps_in_variance = eps_in_variance
        self._freeze()
        if lora is not None:
            add_lora(self, lora, in_channels=in_channels, size=None)

    def forward(self, x: Tensor) -> tuple:
        """Compute the taps.

        Args:
            x: Normalised images of shape BxCxHxW; zeros pad them at the bottom and right to multiples of 16.

        Returns:
            Feature maps of shape BxCxhxw of the first two stages, at strides 4 and 8, followed by the taps of
            :class:`VisionTransformer`.
        """
        x = self.stem(pad_to_multiple(x, STRIDE))
        maps = []
        for stage in self.stages:
            x = self._run(stage, x, frozen=self.frozen_stages >= 0)
            maps.append(x)
        return (maps[0], maps[1], *super().forward(maps[2]))
