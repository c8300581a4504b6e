"""ViT checkpoints of timm, DeiT, DINO, DINOv2, MAE, Google, torchvision and Hugging Face."""

import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .table import Changed, Format

_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_HALF = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))

CLASSIFIER = 'classifier of the pretraining task'
POOLED = 'layer between the pooled tokens and the classifier of the pretraining task'
MASK = 'mask token, used only in masked pretraining'
DECODER = 'decoder of masked pretraining'

_TIMM_KEYS: dict[str, str | Changed] = {
    'cls_token': 'cls_token',
    'pos_embed': 'pos_embed',
    'patch_embed.proj.*': 'patch_embed.projection.*',
    'blocks.#.norm#.*': 'layers.#.ln#.*',
    # timm stacks the rows of q, k and v in one matrix, in the same order as nn.MultiheadAttention.
    'blocks.#.attn.qkv.*': 'layers.#.attn.attn.in_proj_*',
    'blocks.#.attn.proj.*': 'layers.#.attn.attn.out_proj.*',
    'blocks.#.mlp.fc1.*': 'layers.#.ffn.layers.0.0.*',
    'blocks.#.mlp.fc2.*': 'layers.#.ffn.layers.1.*',
    'blocks.#.ls#.gamma': 'layers.#.ls#.gamma',
    'norm.*': 'ln1.*',
}
_TIMM_HEAD = {'head.*': CLASSIFIER, 'pre_logits.fc.*': POOLED, 'fc_norm.*': POOLED}

TIMM_VIT = Format('timm', ('patch_embed.proj.weight', 'blocks.0.norm1.weight'), _TIMM_KEYS, _TIMM_HEAD)
"""Plain ViT of timm; the backbone files of DeiT, DINO and MAE have the same keys. Distillation tokens,
registers and q/k norms are not supported, so the table omits them and such files are rejected."""

TIMM_HYBRID = Format(
    'timm, hybrid',
    (*TIMM_VIT.signature, 'patch_embed.backbone.stem.conv.weight'),
    {'patch_embed.backbone.stem.**': 'stem.**', 'patch_embed.backbone.stages.**': 'stages.**', **_TIMM_KEYS},
    _TIMM_HEAD,
    _HALF,
)
"""ViT behind a ResNet stem: ``vit_base_resnet50_384`` of timm 0.4.5, ``vit_base_r50_s16_384`` today."""

DINOV2 = Format(
    'DINOv2',
    (*TIMM_VIT.signature, 'blocks.0.ls1.gamma', 'mask_token'),
    _TIMM_KEYS,
    {**_TIMM_HEAD, 'mask_token': MASK},
    _IMAGENET,
)
MAE = Format(  # with its decoder
    'MAE',
    (*TIMM_VIT.signature, 'mask_token', 'decoder_embed.weight'),
    _TIMM_KEYS,
    {'mask_token': MASK, 'decoder_**': DECODER},
    _IMAGENET,
)
DINO = Format(  # teacher or student
    'DINO',
    tuple(f'backbone.{key}' for key in TIMM_VIT.signature),
    {f'backbone.{theirs}': ours for theirs, ours in _TIMM_KEYS.items()},
    {'head.**': 'projection head of self-supervised pretraining'},
    _IMAGENET,
)


def _without_second_position(pos_embed: Tensor) -> Tensor:
    """1 x (class, distillation, patches) x C -> 1 x (class, patches) x C."""
    return torch.cat([pos_embed[:, :1], pos_embed[:, 2:]], dim=1)


DEIT_DISTILLED = Format(
    'DeiT, distilled',
    (*TIMM_VIT.signature, 'dist_token'),
    {**_TIMM_KEYS, 'pos_embed': Changed('pos_embed', 3, _without_second_position)},
    {**_TIMM_HEAD, 'dist_token': 'distillation token, dropped on request', 'head_dist.*': CLASSIFIER},
    _IMAGENET,
)
"""A distilled DeiT without its distillation token. Only for ``--drop-dist-token``: the other tokens attend to
it in every layer, so dropping it changes the features."""

_BLOCK = 'Transformer/encoderblock_#/'
_QKV = f'{_BLOCK}MultiHeadDotProductAttention_1/{{query,key,value}}'
_OUT = f'{_BLOCK}MultiHeadDotProductAttention_1/out'

_HEADS = (('head', CLASSIFIER), ('pre_logits', POOLED))
GOOGLE_VIT = Format(
    'Google npz',
    ('embedding/kernel', 'Transformer/encoderblock_0/LayerNorm_0/scale'),
    {
        'cls': 'cls_token',
        'Transformer/posembed_input/pos_embedding': 'pos_embed',
        # height x width x inputs x outputs
        'embedding/kernel': Changed('patch_embed.projection.weight', 4, lambda x: x.permute(3, 2, 0, 1)),
        'embedding/bias': 'patch_embed.projection.bias',
        f'{_BLOCK}LayerNorm_0/scale': 'layers.#.ln1.weight',
        f'{_BLOCK}LayerNorm_0/bias': 'layers.#.ln1.bias',
        f'{_BLOCK}LayerNorm_2/scale': 'layers.#.ln2.weight',
        f'{_BLOCK}LayerNorm_2/bias': 'layers.#.ln2.bias',
        # kernel: inputs x heads x channels per head, bias: heads x channels per head
        f'{_QKV}/kernel': Changed('layers.#.attn.attn.in_proj_weight', 3, lambda x: x.flatten(1).t()),
        f'{_QKV}/bias': Changed('layers.#.attn.attn.in_proj_bias', 2, Tensor.flatten),
        # heads x channels per head x outputs
        f'{_OUT}/kernel': Changed('layers.#.attn.attn.out_proj.weight', 3, lambda x: x.flatten(0, 1).t()),
        f'{_OUT}/bias': 'layers.#.attn.attn.out_proj.bias',
        f'{_BLOCK}MlpBlock_3/Dense_0/kernel': Changed('layers.#.ffn.layers.0.0.weight', 2, Tensor.t),
        f'{_BLOCK}MlpBlock_3/Dense_0/bias': 'layers.#.ffn.layers.0.0.bias',
        f'{_BLOCK}MlpBlock_3/Dense_1/kernel': Changed('layers.#.ffn.layers.1.weight', 2, Tensor.t),
        f'{_BLOCK}MlpBlock_3/Dense_1/bias': 'layers.#.ffn.layers.1.bias',
        'Transformer/encoder_norm/scale': 'ln1.weight',
        'Transformer/encoder_norm/bias': 'ln1.bias',
    },
    {f'{head}/{name}': reason for head, reason in _HEADS for name in ('kernel', 'bias')},
    _HALF,
)
"""The ``.npz`` files of google-research/vision_transformer."""

_LAYER = 'encoder.layers.encoder_layer_#.'

TORCHVISION_VIT = Format(
    'torchvision',
    ('conv_proj.weight', 'encoder.layers.encoder_layer_0.ln_1.weight'),
    {
        'class_token': 'cls_token',
        'encoder.pos_embedding': 'pos_embed',
        'conv_proj.*': 'patch_embed.projection.*',
        f'{_LAYER}ln_#.*': 'layers.#.ln#.*',
        f'{_LAYER}self_attention.in_proj_*': 'layers.#.attn.attn.in_proj_*',
        f'{_LAYER}self_attention.out_proj.*': 'layers.#.attn.attn.out_proj.*',
        f'{_LAYER}mlp.0.*': 'layers.#.ffn.layers.0.0.*',
        f'{_LAYER}mlp.3.*': 'layers.#.ffn.layers.1.*',
        f'{_LAYER}mlp.linear_1.*': 'layers.#.ffn.layers.0.0.*',  # before torchvision 0.12.1
        f'{_LAYER}mlp.linear_2.*': 'layers.#.ffn.layers.1.*',
        'encoder.ln.*': 'ln1.*',
    },
    {'heads.head.*': CLASSIFIER, 'heads.pre_logits.*': POOLED},
    _IMAGENET,
)

HUGGING_FACE_QKV = 'attention.attention.{query,key,value}'
_HUGGING_FACE_LAYER = {
    'layernorm_before.*': 'ln1.*',
    'layernorm_after.*': 'ln2.*',
    'norm#.*': 'ln#.*',  # DINOv2
    f'{HUGGING_FACE_QKV}.*': 'attn.attn.in_proj_*',
    'attention.output.dense.*': 'attn.attn.out_proj.*',
    # The parameter names of transformers 5 differ from those in its files.
    'attention.{q_proj,k_proj,v_proj}.*': 'attn.attn.in_proj_*',
    'attention.o_proj.*': 'attn.attn.out_proj.*',
    'intermediate.dense.*': 'ffn.layers.0.0.*',
    'output.dense.*': 'ffn.layers.1.*',
    'mlp.fc1.*': 'ffn.layers.0.0.*',
    'mlp.fc2.*': 'ffn.layers.1.*',
    'layer_scale#.lambda1': 'ls#.gamma',
}


def _hugging_face(name: str, prefix: str, layer: str, norm: str, norm_eps: float) -> Format:
    """Return the format of a ViT of transformers; ``prefix`` is that of the backbone in a model with head."""
    keys = {
        'embeddings.cls_token': 'cls_token',
        'embeddings.position_embeddings': 'pos_embed',
        'embeddings.patch_embeddings.projection.*': 'patch_embed.projection.*',
        **{f'{layer}.#.{theirs}': f'layers.#.{ours}' for theirs, ours in _HUGGING_FACE_LAYER.items()},
        'layernorm.*': 'ln1.*',
    }
    dropped = {f'{prefix}embeddings.mask_token': MASK, f'{prefix}pooler.dense.*': POOLED}
    return Format(
        name,
        (f'{prefix}embeddings.position_embeddings', f'{prefix}{layer}.0.{norm}.weight'),
        {f'{prefix}{theirs}': ours for theirs, ours in keys.items()},
        {**dropped, 'classifier.*': CLASSIFIER, 'decoder.**': DECODER},
        norm_eps=norm_eps,
    )


_HF_VIT, _HF_DINOV2 = 'Hugging Face ViT', 'Hugging Face DINOv2'
HF_VIT = _hugging_face(_HF_VIT, '', 'encoder.layer', 'layernorm_before', 1e-12)
HF_DINOV2 = _hugging_face(_HF_DINOV2, '', 'encoder.layer', 'norm1', 1e-6)
HUGGING_FACE = (
    HF_VIT,
    _hugging_face(_HF_VIT, '', 'layers', 'layernorm_before', 1e-12),
    _hugging_face(_HF_VIT, 'vit.', 'encoder.layer', 'layernorm_before', 1e-12),
    _hugging_face(_HF_VIT, 'vit.', 'layers', 'layernorm_before', 1e-12),
    HF_DINOV2,
    _hugging_face(_HF_DINOV2, 'dinov2.', 'encoder.layer', 'norm1', 1e-6),
)
"""``ViTModel``, ``ViTForImageClassification``, ``ViTMAEForPreTraining``, ``Dinov2Model`` and similar."""

FOREIGN_VITS = (MAE, DINOV2, TIMM_VIT, DINO, GOOGLE_VIT, TORCHVISION_VIT, *HUGGING_FACE)
"""Plain ViTs of other libraries. MAE and DINOv2 come first because they also match the signature of timm."""

MMSEG_VIT = Format('MMSegmentation', ('patch_embed.projection.weight', 'layers.0.ln1.weight'), {'**': '**'})
"""Bare backbone with the keys of VisionTransformer, as ``vit2mmseg.py`` writes it."""

TRAINED_VIT = Format(
    'trained model',
    tuple(f'backbone.{key}' for key in MMSEG_VIT.signature),
    {'backbone.**': '**'},
    dict.fromkeys(
        ('neck.**', 'decode_head.**', 'auxiliary_head.**', 'auxiliary_heads.**'), 'not part of the backbone'
    ),
)
"""The backbone in a complete model of this package or of MMSegmentation."""

_REFUSED = {
    r'(.+\.)?(blocks|layers)\.\d+\.attn\.rel_pos_[hw]': (
        'the image encoder of SAM or a similar model, with windowed attention and relative positions; use '
        "TimmBackbone with a model such as 'samvit_base_patch16'"
    ),
    r'(.+\.)?(dist_token|distillation_token)': (
        'a distilled DeiT, with a distillation token; use TimmBackbone with a model such as '
        "'deit_base_distilled_patch16_224'. --drop-dist-token of tools/model_converters/vit2mmseg.py drops "
        'the token from files of timm and DeiT, which changes the features'
    ),
    r'(.+\.)?(reg_token|register_tokens|storage_tokens)': (
        "a ViT with registers; use TimmBackbone with a model such as 'vit_base_patch14_reg4_dinov2' or "
        "'vit_base_patch16_dinov3'"
    ),
    r'(.+\.)?mlp\.(w12|w3|weights_in|fc1_g|gate_proj)\..+': (
        'a ViT with SwiGLU feed-forward layers; use TimmBackbone with a model such as '
        "'vit_giant_patch14_dinov2' or 'eva02_base_patch14_448'"
    ),
    r'(.+\.)?rope(_embed|_embeddings)?\..+': (
        'a ViT with rotary position embedding; use TimmBackbone with a model such as '
        "'vit_base_patch16_dinov3' or 'eva02_base_patch14_448'"
    ),
    r'(.+\.)?(relative_position_bias_table|relative_position_index|attn\.[qv]_bias|lambda_[12])': (
        'BEiT, whose attention has a relative position bias in every layer; use TimmBackbone with a model '
        "such as 'beitv2_base_patch16_224' and a file of timm"
    ),
    r'(.+\.)?(norm_pre|ln_pre|pre_layrnorm)\.(weight|bias)|visual\..+|(.+\.)?class_embedding': (
        'the image encoder of CLIP, with a norm before the first layer; use TimmBackbone with a model such '
        "as 'vit_base_patch16_clip_quickgelu_224' and a file of timm or Hugging Face"
    ),
    r'(.+\.)?(attn_pool\..+|head\.probe)|(vision_model\.)?embeddings\.patch_embedding\.weight': (
        'the image encoder of SigLIP, without a class token and with the tanh approximation of GELU; use '
        "TimmBackbone with a model such as 'vit_base_patch16_siglip_224'"
    ),
    r'(.+\.)?([qk]_norm|norm_[qk])\.(weight|bias)': (
        'a ViT with norms of queries and keys; use TimmBackbone if timm has the model'
    ),
    r'(.+\.)?blocks\.\d+\.gamma_[12]': (
        'a ViT without a class token position embedding, such as DeiT III; use TimmBackbone with a model '
        "such as 'deit3_base_patch16_224'"
    ),
}
"""Descriptions of ViTs that VisionTransformer does not support, by a pattern of their keys."""


def why_not(keys: Iterable[str]) -> str:
    """Return a sentence that names the unsupported model with these keys, or ``''`` if it is unknown."""
    listed = list(keys)
    for pattern, reason in _REFUSED.items():
        if any(re.fullmatch(pattern, key) for key in listed):
            return f'VisionTransformer does not support it: this is {reason}'
    return ''


def check_complete(tensors: Mapping[str, Tensor]) -> None:
    """Check that tensors with the keys of VisionTransformer form a complete ViT with a class token.

    Raises:
        ValueError: If tensors are missing, the position embedding has no entry for the class token, or the
            feed-forward layers are gated.
    """
    if 'cls_token' not in tensors:
        raise ValueError(
            'VisionTransformer does not support ViTs without a class token, such as SigLIP; use TimmBackbone '
            "with a model such as 'vit_base_patch16_siglip_224'"
        )
    modules = ('ln1', 'attn.attn.out_proj', 'ln2', 'ffn.layers.0.0', 'ffn.layers.1')
    names = dict.fromkeys(f'{module}.{name}' for module in modules for name in ('weight', 'bias'))
    names['attn.attn.in_proj_weight'] = None
    # Optional tensors, such as layer scales, must be in all layers or in none.
    names |= {match[1]: None for key in tensors if (match := re.fullmatch(r'layers\.\d+\.(.+)', key))}
    expected = ['pos_embed', 'patch_embed.projection.weight']
    expected += [f'layers.{i}.{name}' for i in range(_count_layers(tensors)) for name in names]
    missing = [key for key in expected if key not in tensors]
    if missing:
        raise ValueError(
            f'{len(missing)} tensors of the ViT are missing, named as in VisionTransformer: '
            f'{", ".join(missing[:20])}'
        )
    hidden, taken = (tensors[f'layers.0.ffn.layers.{name}.weight'] for name in ('0.0', '1'))
    if hidden.shape[0] != taken.shape[-1]:
        raise ValueError(
            f'the first layer of the MLP has {hidden.shape[0]} outputs, the second {taken.shape[-1]} inputs: '
            'VisionTransformer does not support SwiGLU feed-forward layers, as in DINOv2 ViT-g; use '
            "TimmBackbone with a model such as 'vit_giant_patch14_dinov2'"
        )
    position = tensors['pos_embed']
    if position.ndim != 3 or math.isqrt(position.shape[1]) ** 2 == position.shape[1]:
        raise ValueError(
            f'the position embedding has shape {"x".join(map(str, position.shape))}: it has no entry for '
            "the class token (as in DeiT III); use TimmBackbone with a model such as 'deit3_base_patch16_224'"
        )


def _count_layers(tensors: Mapping[str, Tensor]) -> int:
    """Return the highest layer number plus one, so that a gap is reported as missing tensors."""
    numbers = [int(match[1]) for key in tensors if (match := re.match(r'layers\.(\d+)\.', key))]
    return max(numbers, default=0) + 1


def backbone_settings(
    tensors: Mapping[str, Tensor], source: Format, num_heads: int | None = None
) -> list[str]:
    """Return the settings that a config needs for these weights, as lines of text.

    Args:
        tensors: A ViT that passes :func:`check_complete`.
        source: Its original format.
        num_heads: Number of attention heads, if known.
    """
    width, channels, *patch = tensors['patch_embed.projection.weight'].shape
    patches, hidden = tensors['pos_embed'].shape[1] - 1, len(tensors['layers.0.ffn.layers.0.0.weight'])
    grid = math.isqrt(patches)
    settings = {
        'embed_dims': width,
        'num_layers': _count_layers(tensors),
        'patch_size': patch[0],
        'img_size': grid * patch[0] if grid * grid == patches else None,
        'in_channels': channels if channels != 3 else None,
        'mlp_ratio': f'{hidden / width:g}' if hidden != 4 * width else None,
        'patch_bias': None if 'patch_embed.projection.bias' in tensors else False,
        'qkv_bias': None if 'layers.0.attn.attn.in_proj_bias' in tensors else False,
        'layer_scale_init': '1e-5' if 'layers.0.ls1.gamma' in tensors else None,
        'norm_eps': f'{source.norm_eps:g}',
        'num_heads': num_heads,
    }
    shown = ', '.join(f'{name}={value}' for name, value in settings.items() if value is not None)
    lines = [f'backbone=dict({shown})']
    if num_heads is None:
        usual = f'here {width // 64} heads' if width % 64 == 0 else f'but {width} is not a multiple of 64'
        lines.append(
            f'num_heads: not in the file; most ViTs have 64 channels a head, {usual} (ViT-H: 16 heads of 80)'
        )
    if grid * grid != patches:
        lines.append(f'img_size: (height, width) of the pretraining images, which have {patches} patches')
    if source.mean_std is None:
        lines.append('data_preprocessor: mean and std differ between models of this source; look them up')
    else:
        mean, std = map(list, source.mean_std)
        lines.append(f'data_preprocessor=dict(mean={mean}, std={std})')
    return lines
