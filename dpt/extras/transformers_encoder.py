"""Encoders of models as those of transformers: their tensors and their part of ``config.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dpt.checkpoints import convert
from dpt.checkpoints.formats.table import Format
from dpt.checkpoints.formats.vit import DINOV2
from dpt.models.backbones import HybridVisionTransformer, TimmBackbone, VisionTransformer
from dpt.models.backbones.resnet_stem import WSConv2d
from dpt.models.layers import resize_pos_embed

WEIGHT_EPS = 1e-8
"""What the stem of transformers adds to the variance of a filter, not to its standard deviation."""

_COMMON = {
    'cls_token': 'embeddings.cls_token',
    'pos_embed': 'embeddings.position_embeddings',
    'ln1.*': 'layernorm.*',
    **{
        f'layers.#.attn.attn.{name}.*': f'encoder.layer.#.attention.attention.{name}.*'
        for name in ('query', 'key', 'value')
    },
    'layers.#.attn.attn.out_proj.*': 'encoder.layer.#.attention.output.dense.*',
}
_VIT = {
    **_COMMON,
    'layers.#.ln1.*': 'encoder.layer.#.layernorm_before.*',
    'layers.#.ln2.*': 'encoder.layer.#.layernorm_after.*',
    'layers.#.ffn.layers.0.0.*': 'encoder.layer.#.intermediate.dense.*',
    'layers.#.ffn.layers.1.*': 'encoder.layer.#.output.dense.*',
}
_PATCHES = {'patch_embed.projection.*': 'embeddings.patch_embeddings.projection.*'}
_STEM = {
    'patch_embed.projection.*': 'embeddings.projection.*',
    'stem.conv.weight': 'embeddings.backbone.bit.embedder.convolution.weight',
    'stem.norm.*': 'embeddings.backbone.bit.embedder.norm.*',
    'stages.#.blocks.#.**': 'embeddings.backbone.bit.encoder.stages.#.layers.#.**',
}
_DINOV2 = {
    **_COMMON,
    **_PATCHES,
    'layers.#.ln#.*': 'encoder.layer.#.norm#.*',
    'layers.#.ffn.layers.0.0.*': 'encoder.layer.#.mlp.fc1.*',
    'layers.#.ffn.layers.1.*': 'encoder.layer.#.mlp.fc2.*',
    'layers.#.ls#.gamma': 'encoder.layer.#.layer_scale#.lambda1',
}


@dataclass(frozen=True)
class Encoder:
    """A ViT with the keys of VisionTransformer, and what its keys do not tell."""

    tensors: dict[str, Tensor]
    num_heads: int
    patch_size: int
    grid: int
    taps: tuple[int, ...]
    normed: bool
    norm_eps: float
    resize: tuple[str, float]  # mode, offset
    stem: dict[str, Any] = field(default_factory=dict)

    @property
    def layer_scale(self) -> bool:
        """Whether its layers have LayerScale, as in DINOv2."""
        return 'layers.0.ls1.gamma' in self.tensors

    @property
    def layers(self) -> int:
        return 1 + max(int(key.split('.')[1]) for key in self.tensors if key.startswith('layers.'))

    @property
    def width(self) -> int:
        return self.tensors['cls_token'].shape[-1]


def refuse(wrong: Mapping[str, bool]) -> None:
    """Raise ValueError with the settings that are wrong."""
    if found := [text for text, is_wrong in wrong.items() if is_wrong]:
        raise ValueError(f'transformers does not support this model; it would need {", ".join(found)}')


def encoder_of(backbone: Any) -> Encoder:
    tensors = backbone.state_dict()
    if any('.lora_' in key for key in tensors):
        raise ValueError('the model has LoRA adapters: merge them with tools/publish_model.py first')
    if isinstance(backbone, TimmBackbone):
        return _timm_encoder(backbone, tensors)
    if type(backbone) not in (VisionTransformer, HybridVisionTransformer):
        raise ValueError(f'transformers has no DPT with {type(backbone).__name__}')
    last = backbone.out_indices[-1] == len(backbone.layers) - 1
    refuse(
        {
            'a square img_size': len(set(backbone.native_grid)) > 1,
            'final_norm=False': not backbone.norm_taps and last and 'ln1.weight' in tensors,
        }
    )
    stem: dict[str, Any] = {}
    if isinstance(backbone, HybridVisionTransformer):
        stages: Any = backbone.stages
        stem = dict(
            channels=backbone.stem.conv.out_channels,
            stages=[stage.blocks[0].conv3.out_channels for stage in stages],
            depths=[len(stage.blocks) for stage in stages],
        )
        tensors |= _standardised(backbone)
    return Encoder(
        tensors,
        num_heads=backbone.layers[0].attn.attn.num_heads,
        patch_size=16 if stem else backbone.patch_embed.patch_size,
        grid=backbone.native_grid[0],
        taps=backbone.out_indices,
        normed=backbone.norm_taps,
        norm_eps=backbone.layers[0].ln1.eps,
        resize=(backbone.interpolate_mode, backbone.interpolate_offset),
        stem=stem,
    )


def _timm_encoder(backbone: TimmBackbone, tensors: Mapping[str, Tensor]) -> Encoder:
    converted, report = convert({key.removeprefix('model.'): tensors[key] for key in tensors}, DINOV2)
    model = backbone.model
    if report.unmapped or 'layers.0.ls1.gamma' not in converted or 'cls_token' not in converted:
        raise ValueError(
            f'transformers has no DPT with {backbone.model_name}, only with DINOv2 without registers'
        )
    if not isinstance(model.blocks[0].mlp.act, nn.GELU):
        raise ValueError('transformers supports GELU only')
    offset = 0.1 if backbone.pos_embed_resize == 'dinov2' else 0.0
    return Encoder(
        converted,
        num_heads=model.blocks[0].attn.num_heads,
        patch_size=model.patch_embed.patch_size[0],
        grid=model.patch_embed.grid_size[0],
        taps=backbone.out_indices,
        normed=backbone.norm_taps,
        norm_eps=model.blocks[0].norm1.eps,
        resize=('timm' if backbone.pos_embed_resize == 'timm' else 'bicubic', offset),
    )


def _standardised(backbone: HybridVisionTransformer) -> dict[str, Tensor]:
    """Return the filters of the stem, scaled so that transformers' weight standardisation gives the same.

    It divides by ``sqrt(variance + 1e-8)`` and the model by ``std + weight_eps``: filters end with a standard
    deviation below one that depends on their own.
    """
    scaled = {}
    for name, module in backbone.named_modules():
        if isinstance(module, WSConv2d):
            std, mean = torch.std_mean(module.weight.double(), dim=(1, 2, 3), keepdim=True, correction=0)
            share = std / (std + module.weight_eps)  # standard deviation afterwards
            wanted = torch.sqrt(WEIGHT_EPS * share**2 / (1 - share**2))
            scaled[f'{name}.weight'] = ((module.weight - mean) * (wanted / std)).float()
    return scaled


def at_size(encoder: Encoder, size: int) -> Encoder:
    """Resize the position embedding to the grid of images of this size."""
    grid, native = size // encoder.patch_size, (encoder.grid, encoder.grid)
    mode, offset = encoder.resize
    positions = resize_pos_embed(encoder.tensors['pos_embed'], native, (grid, grid), mode, 1, offset=offset)
    return replace(encoder, tensors={**encoder.tensors, 'pos_embed': positions}, grid=grid)


def vit_values(encoder: Encoder) -> dict[str, Any]:
    hidden = len(encoder.tensors['layers.0.ffn.layers.0.0.weight'])
    return dict(
        hidden_size=encoder.width,
        num_hidden_layers=encoder.layers,
        num_attention_heads=encoder.num_heads,
        image_size=encoder.grid * encoder.patch_size,
        patch_size=encoder.patch_size,
        qkv_bias='layers.0.attn.attn.in_proj_bias' in encoder.tensors,
        layer_norm_eps=encoder.norm_eps,
        hidden_act='gelu',
        **(
            dict(mlp_ratio=hidden // encoder.width) if encoder.layer_scale else dict(intermediate_size=hidden)
        ),
    )


def dinov2_values(encoder: Encoder) -> dict[str, Any]:
    stages = [f'stage{i + 1}' for i in range(encoder.layers)]
    return dict(
        model_type='dinov2',
        **vit_values(encoder),
        apply_layernorm=encoder.normed,
        reshape_hidden_states=False,
        use_mask_token=False,
        use_swiglu_ffn=False,
        stage_names=['stem', *stages],
        out_features=[stages[i] for i in encoder.taps],
        out_indices=[i + 1 for i in encoder.taps],
    )


def encoder_tensors(encoder: Encoder, prefix: str) -> dict[str, Tensor]:
    """Return the tensors with the keys of transformers after ``prefix``.

    The final norm is in the file even if the model does not use it, and so is the bias of the patches.
    """
    tensors = dict(encoder.tensors)
    tensors.setdefault('patch_embed.projection.bias', torch.zeros(encoder.width))
    tensors.setdefault('ln1.weight', torch.ones(encoder.width))
    tensors.setdefault('ln1.bias', torch.zeros(encoder.width))
    for key in [key for key in tensors if '.in_proj_' in key]:
        for name, tensor in zip(('query', 'key', 'value'), tensors.pop(key).chunk(3), strict=True):
            tensors[key.replace('in_proj_', f'{name}.')] = tensor
    table = _DINOV2 if encoder.layer_scale else {**_VIT, **(_STEM if encoder.stem else _PATCHES)}
    targets = {ours: f'{prefix}{theirs}' for ours, theirs in table.items()}
    return renamed(tensors, targets)


def renamed(tensors: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename all keys; raise ValueError if transformers has no counterpart for one."""
    converted, report = convert(tensors, Format('dpt', (), table))
    if report.unmapped:
        raise ValueError(f'transformers has no counterpart for {", ".join(report.unmapped[:10])}')
    return converted
