"""Vision Transformer (Dosovitskiy et al. 2020, arXiv 2010.11929) with taps for dense prediction."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dpt.models.backbones.transformer_layer import MultiheadAttention, TransformerEncoderLayer
from dpt.models.layers import image_size, pad_to_multiple, resize_pos_embed
from dpt.models.lora import add_lora
from dpt.registry import MODELS


class PatchEmbed(nn.Module):
    """Split an image into patches and project each to ``embed_dims`` channels."""

    def __init__(self, in_channels: int, embed_dims: int, *, patch_size: int, bias: bool) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size, bias=bias)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return tokens of shape BxNxC in row-major order, and the patch grid (height, width).

        Zeros pad the image at the bottom and right to multiples of the patch size.
        """
        x = self.projection(pad_to_multiple(x, self.patch_size))
        grid = (x.shape[-2], x.shape[-1])
        return x.flatten(2).transpose(1, 2), grid


@MODELS.register_module()
class VisionTransformer(BaseModule):
    """Plain ViT that returns the tokens of selected layers, before the final norm.

    Args:
        img_size: Size in pixels of the pretraining images. Together with ``patch_size`` it sets the native
            grid of the position embedding (224 / 16 -> 14x14). The forward pass resizes the embedding for
            other input sizes; checkpoints keep the native grid.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of the image.
        embed_dims: Channels of a token.
        num_layers: Number of transformer layers.
        num_heads: Number of attention heads; must divide ``embed_dims``.
        mlp_ratio: Ratio of the feed-forward hidden channels to ``embed_dims``.
        out_indices: 0-based, ascending indices of the layers whose output is returned. DPT-Base uses 2, 5, 8
            and 11, DPT-Large 5, 11, 17 and 23.
        qkv_bias: Whether the query, key and value projections have a bias.
        patch_bias: Whether the patch projection has a bias; it has none in MMSegmentation since 1.2.0.
        layer_scale_init: Initial value of LayerScale (DINOv2: 1e-5); ``None`` disables LayerScale.
        drop_rate: Dropout rate after the position embedding, attention projection and feed-forward layers.
        attn_drop_rate: Dropout rate of the attention weights.
        drop_path_rate: Stochastic depth rate of the last layer; it increases linearly from 0 at the first.
        drop_path_attn: Whether stochastic depth also drops the attention branch, as in timm, or only the
            feed-forward branch, as in MMSegmentation.
        norm_eps: Epsilon of the layer norms: 1e-6 in pretraining, 1e-5 in MMSegmentation.
        final_norm: Whether to apply the final norm ``ln1`` to the output of the last layer.
        norm_taps: Whether to apply ``ln1`` to every returned layer, as is usual with DINOv2. Activations grow
            with depth (in a ViT-S/14 of DINOv2's shape the last tap is about 50 times larger than the first);
            without the norm, fine levels start with almost no signal. The published DPT does not normalise
            taps.
        interpolate_mode: Interpolation of the position embedding: ``'bicubic'`` or ``'bilinear'``.
        interpolate_offset: Added to the patch grid in the scale of that interpolation: 0.1 in the original
            DINOv2 without registers and in Depth Anything, whose weights were trained so.
        output_cls_token: Whether to return (map, class token) pairs instead of maps.
        frozen_stages: Number of leading layers to freeze together with the embeddings; 0 freezes only the
            embeddings, -1 nothing.
        with_cp: Whether to use gradient checkpointing, which saves memory but makes the backbone about a
            third slower.
        lora: Settings of LoRA adapters, see :func:`dpt.models.lora.add_lora`; everything else is frozen.
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH)`` loads weights strictly. It accepts every
            checkpoint format that ``tools/model_converters/vit2mmseg.py`` converts.

    Raises:
        ValueError: If an argument is invalid or does not fit the others; the message names it.
    """

    embedding_modules: tuple[str, ...] = ('patch_embed', 'drop_after_pos')
    """Child modules before the layers, frozen if ``frozen_stages`` is 0 or more."""

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        *,
        in_channels: int = 3,
        embed_dims: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        out_indices: Sequence[int] = (2, 5, 8, 11),
        qkv_bias: bool = True,
        patch_bias: bool = True,
        layer_scale_init: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        drop_path_attn: bool = True,
        norm_eps: float = 1e-6,
        final_norm: bool = False,
        norm_taps: bool = False,
        interpolate_mode: str = 'bicubic',
        interpolate_offset: float = 0.0,
        output_cls_token: bool = True,
        frozen_stages: int = -1,
        with_cp: bool = False,
        lora: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        height, width = image_size(img_size)
        if min(height, width) < patch_size:
            raise ValueError(f'img_size={img_size} must be at least patch_size={patch_size}')
        self.native_grid = (height // patch_size, width // patch_size)
        self.embed_dims = embed_dims
        self.out_indices = tuple(out_indices)
        self.interpolate_mode = interpolate_mode
        self.interpolate_offset = interpolate_offset
        self.output_cls_token = output_cls_token
        self.norm_taps = norm_taps
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self._check(num_layers, num_heads)

        self.patch_embed = PatchEmbed(in_channels, embed_dims, patch_size=patch_size, bias=patch_bias)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        num_patches = self.native_grid[0] * self.native_grid[1]
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + num_patches, embed_dims))
        self.drop_after_pos = nn.Dropout(drop_rate)
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(
                embed_dims,
                num_heads,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                drop_rate=drop_rate,
                attn_drop_rate=attn_drop_rate,
                drop_path_rate=drop_path_rate * i / max(num_layers - 1, 1),
                drop_path_attn=drop_path_attn,
                layer_scale_init=layer_scale_init,
                norm_eps=norm_eps,
            )
            for i in range(num_layers)
        )
        has_norm = final_norm or norm_taps
        self.ln1 = nn.LayerNorm(embed_dims, eps=norm_eps) if has_norm else nn.Identity()
        self._freeze()
        if lora is not None:
            add_lora(self, lora, in_channels=in_channels, size=None)

    def _check(self, num_layers: int, num_heads: int) -> None:
        taps = self.out_indices
        if not taps or list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= num_layers:
            raise ValueError(
                f'out_indices={taps} must be ascending layer indices from 0 to {num_layers - 1} '
                f'(num_layers={num_layers})'
            )
        if self.embed_dims % num_heads:
            raise ValueError(f'num_heads={num_heads} must divide embed_dims={self.embed_dims}')
        if self.interpolate_mode not in ('bicubic', 'bilinear'):
            raise ValueError(f"interpolate_mode={self.interpolate_mode!r} must be 'bicubic' or 'bilinear'")
        if not -1 <= self.frozen_stages <= num_layers:
            raise ValueError(f'frozen_stages={self.frozen_stages} must be from -1 to {num_layers}')

    def init_weights(self) -> None:
        """Load the weights of ``init_cfg``, else initialise with truncated normal (std 0.02), zero biases."""
        if not self.init_cfg or self.init_cfg.get('type') != 'Pretrained':
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
            nn.init.trunc_normal_(self.cls_token, std=0.02)
            for name, module in self.layers.named_modules():
                if isinstance(module, nn.Linear) and '.lora_' not in name:
                    nn.init.trunc_normal_(module.weight, std=0.02)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
                elif isinstance(module, MultiheadAttention):
                    nn.init.trunc_normal_(module.in_proj_weight, std=0.02)
        super().init_weights()

    def layer_numbers(self, *, stages: bool = False) -> dict[str, int]:
        """Return the number of the layer of each parameter, by name, for layer-wise rates.

        The embeddings, and the stem of a hybrid, are 0; the layers count from 1. The final norm belongs to
        the last layer, as in timm.

        Args:
            stages: Without effect: each layer is a stage.
        """
        numbers = {}
        for name, _ in self.named_parameters():
            top, *rest = name.split('.')
            numbers[name] = int(rest[0]) + 1 if top == 'layers' else len(self.layers) if top == 'ln1' else 0
        return numbers

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        embeddings = [module for name, module in self.named_children() if name in self.embedding_modules]
        return [*embeddings, *self.layers[: self.frozen_stages]]

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            module.requires_grad_(False)
        if self.frozen_stages >= 0:
            self.cls_token.requires_grad_(False)
            self.pos_embed.requires_grad_(False)
        # Layers after the last tap exist only for checkpoint compatibility. They and an unused final norm get
        # no gradient, and DistributedDataParallel fails on trainable parameters without gradients.
        self.layers[self.out_indices[-1] + 1 :].requires_grad_(False)
        if not self.norm_taps and self.out_indices[-1] < len(self.layers) - 1:
            self.ln1.requires_grad_(False)

    def train(self, mode: bool = True) -> 'VisionTransformer':
        """Set training mode, but keep frozen layers in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _embed(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x, grid = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + resize_pos_embed(
            self.pos_embed, self.native_grid, grid, self.interpolate_mode, 1, offset=self.interpolate_offset
        )
        return self.drop_after_pos(x), grid

    def _tap(self, x: Tensor, grid: tuple[int, int]) -> Tensor | tuple[Tensor, Tensor]:
        cls_token, patches = x[:, 0], x[:, 1:]
        feature_map = patches.transpose(1, 2).unflatten(2, grid)  # BxNxC -> BxCxHxW
        return (feature_map, cls_token) if self.output_cls_token else feature_map

    def _run(self, module: nn.Module, x: Tensor, *, frozen: bool) -> Tensor:
        # Frozen modules need no recomputation.
        if self.with_cp and self.training and not frozen:
            return checkpoint(module, x, use_reentrant=False)
        return module(x)

    def forward(self, x: Tensor) -> tuple:
        """Compute the taps.

        Args:
            x: Normalised images of shape BxCxHxW.

        Returns:
            For each of ``out_indices``, a feature map of shape BxCxhxw with h = ceil(H / patch_size) and
            w = ceil(W / patch_size), paired with the class token of shape BxC if ``output_cls_token``.
        """
        x, grid = self._embed(x)
        taps = []
        for i, layer in enumerate(self.layers[: self.out_indices[-1] + 1]):
            x = self._run(layer, x, frozen=i < self.frozen_stages)
            if i in self.out_indices:
                is_last = i == len(self.layers) - 1
                taps.append(self._tap(self.ln1(x) if self.norm_taps or is_last else x, grid))
        return tuple(taps)
