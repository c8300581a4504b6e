"""Checkpoints for TimmBackbone: timm's own, and DINOv2 and DINOv3 of Meta and Hugging Face."""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .hugging_face import HUGGING_FACE_FORMATS
from .table import Format
from .vit import CLASSIFIER, DECODER, HUGGING_FACE_QKV, MASK

_LOCAL = 'norm of the local crops, used only in pretraining'
PERIODS = 'model.rope.periods'

_VIT = ('cls_token', 'pos_embed', 'patch_embed.proj.*', 'norm.*')
_BLOCK = ('norm#.*', 'attn.qkv.weight', 'attn.proj.*', 'mlp.fc#.*')
_SAME = {key: f'model.{key}' for key in (*_VIT, *(f'blocks.#.{key}' for key in _BLOCK))}


def _fold_class_position(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the position of the class token to the token: timm's ViTs with registers have none for it."""
    token, positions = tensors.get('model.cls_token'), tensors.get('model.pos_embed')
    if token is None or positions is None or positions.ndim != 3 or token.shape != positions[:, :1].shape:
        return dict(tensors)  # does not fit any model
    return {
        **tensors,
        'model.cls_token': token + positions[:, :1],
        'model.pos_embed': positions[:, 1:],
    }


def _split_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split the biases of q, k and v, multiplied by their mask.

    Raises:
        ValueError: If the bias of k is not zero after masking: the models of timm have none.
    """
    split: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if key.endswith('.attn.qkv.bias') and tensor.ndim == 1 and len(tensor) % 3 == 0:
            mask = tensors.get(f'{key}_mask', torch.ones_like(tensor))
            if mask.shape == tensor.shape:
                tensor = torch.where(mask == 0, 0, tensor * mask)
            query, bias, value = tensor.chunk(3)
            stem = key.removesuffix('qkv.bias')
            if bias.any():
                raise ValueError(
                    f'{key.removeprefix("model.")} has a bias of k that is not zero, and no bias_mask that '
                    'is zero there; the DINOv3 models of timm have no bias of k'
                )
            split |= {f'{stem}q_bias': query, f'{stem}v_bias': value}
        elif not key.endswith('.attn.qkv.bias_mask'):
            split[key] = tensor
    return split


META_DINOV2 = Format(
    'DINOv2',
    ('mask_token', 'pos_embed', 'blocks.0.ls1.gamma'),
    {
        **_SAME,
        'blocks.#.attn.qkv.bias': 'model.blocks.#.attn.qkv.bias',
        'blocks.#.ls#.gamma': 'model.blocks.#.ls#.gamma',
        'blocks.#.mlp.w12.*': 'model.blocks.#.mlp.fc1.*',
        'blocks.#.mlp.w3.*': 'model.blocks.#.mlp.fc2.*',
    },
    {'mask_token': MASK},
)
META_DINOV2_REGISTERS = Format(
    'DINOv2 with registers',
    (*META_DINOV2.signature, 'register_tokens'),
    {**META_DINOV2.keys, 'register_tokens': 'model.reg_token'},
    META_DINOV2.dropped,
    finish=_fold_class_position,
)
META_DINOV3 = Format(
    'DINOv3',
    ('patch_embed.proj.weight', 'blocks.0.ls1.gamma', 'storage_tokens'),
    {
        **_SAME,
        'storage_tokens': 'model.reg_token',
        'rope_embed.periods': PERIODS,
        'blocks.#.attn.qkv.bias': 'model.blocks.#.attn.qkv.bias',
        'blocks.#.attn.qkv.bias_mask': 'model.blocks.#.attn.qkv.bias_mask',
        'blocks.#.ls#.gamma': 'model.blocks.#.gamma_#',
        'blocks.#.mlp.w1.*': 'model.blocks.#.mlp.fc1_g.*',
        'blocks.#.mlp.w2.*': 'model.blocks.#.mlp.fc1_x.*',
        'blocks.#.mlp.w3.*': 'model.blocks.#.mlp.fc2.*',
    },
    {
        'mask_token': MASK,
        'local_cls_norm.*': _LOCAL,
    },
    finish=_split_biases,
)


def _hugging_face(name: str, prefix: str, layer: str, block: Mapping[str, str], **options) -> Format:
    """Return the format of a DINO of transformers; ``prefix`` is that of the backbone in a classifier."""
    keys = {
        'embeddings.cls_token': 'cls_token',
        'embeddings.position_embeddings': 'pos_embed',
        'embeddings.register_tokens': 'reg_token',
        'embeddings.patch_embeddings.projection.*': 'patch_embed.proj.*',  # DINOv2
        'embeddings.patch_embeddings.*': 'patch_embed.proj.*',  # DINOv3
        'layernorm.*': 'norm.*',
        'norm.*': 'norm.*',
        f'{layer}.#.norm#.*': 'blocks.#.norm#.*',
        **{f'{layer}.#.{theirs}': f'blocks.#.{ours}' for theirs, ours in block.items()},
    }
    return Format(
        name,
        tuple(f'{prefix}{key}' for key in options.pop('signature')),
        {f'{prefix}{theirs}': f'model.{ours}' for theirs, ours in keys.items()},
        {f'{prefix}embeddings.mask_token': MASK, 'classifier.*': CLASSIFIER},
        **options,
    )


_HF_DINOV2 = {
    f'{HUGGING_FACE_QKV}.*': 'attn.qkv.*',
    'attention.output.dense.*': 'attn.proj.*',
    'layer_scale#.lambda1': 'ls#.gamma',
    'mlp.fc#.*': 'mlp.fc#.*',
    'mlp.weights_in.*': 'mlp.fc1.*',  # gated
    'mlp.weights_out.*': 'mlp.fc2.*',
}
_HF_DINOV3 = {
    'attention.{q_proj,k_proj,v_proj}.weight': 'attn.qkv.weight',
    'attention.q_proj.bias': 'attn.q_bias',
    'attention.v_proj.bias': 'attn.v_bias',
    'attention.o_proj.*': 'attn.proj.*',
    'layer_scale#.lambda1': 'gamma_#',
}
_PLAIN = {'mlp.up_proj.*': 'mlp.fc1.*', 'mlp.down_proj.*': 'mlp.fc2.*'}
_GATED = {'mlp.gate_proj.*': 'mlp.fc1_g.*', 'mlp.up_proj.*': 'mlp.fc1_x.*', 'mlp.down_proj.*': 'mlp.fc2.*'}
_REGISTERS = 'embeddings.register_tokens'
_POSITIONS, _QUERY = 'embeddings.position_embeddings', 'layer.0.attention.q_proj.weight'

MAE = Format(  # with its decoder
    'MAE',
    ('patch_embed.proj.weight', 'mask_token', 'decoder_embed.weight'),
    {**_SAME, 'blocks.#.attn.qkv.bias': 'model.blocks.#.attn.qkv.bias'},
    {'mask_token': MASK, 'decoder_**': DECODER},
)
DEIT3 = Format(  # of Meta
    'DeiT III',
    ('cls_token', 'pos_embed', 'blocks.0.gamma_1', 'blocks.0.attn.qkv.bias'),
    {'blocks.#.gamma_#': 'model.blocks.#.ls#.gamma', '**': 'model.**'},
)
TIMM = Format('timm', (), {'**': 'model.**'})
"""Any model of timm; which keys of a file are unused depends on the module."""


def _hf_dinov2(prefix: str) -> Format:
    signature = (_POSITIONS, 'encoder.layer.0.norm1.weight')
    return _hugging_face('Hugging Face DINOv2', prefix, 'encoder.layer', _HF_DINOV2, signature=signature)


HF_DINOV2 = _hf_dinov2('')
TIMM_FORMATS = (
    *(
        _hugging_face(
            'Hugging Face DINOv2 with registers',
            prefix,
            'encoder.layer',
            _HF_DINOV2,
            signature=(_POSITIONS, 'encoder.layer.0.norm1.weight', _REGISTERS),
            finish=_fold_class_position,
        )
        for prefix in ('', 'dinov2_with_registers.')
    ),
    HF_DINOV2,
    _hf_dinov2('dinov2.'),
    _hugging_face(
        'Hugging Face DINOv3, gated',
        '',
        'layer',
        {**_HF_DINOV3, **_GATED},
        signature=(_REGISTERS, _QUERY, 'layer.0.mlp.gate_proj.weight'),
    ),
    _hugging_face(
        'Hugging Face DINOv3', '', 'layer', {**_HF_DINOV3, **_PLAIN}, signature=(_REGISTERS, _QUERY)
    ),
    META_DINOV3,
    META_DINOV2_REGISTERS,
    META_DINOV2,
    *HUGGING_FACE_FORMATS,
    MAE,
    DEIT3,
    TIMM,
)
"""For TimmBackbone; the first format with a matching signature is used."""

_BIAS = re.compile(r'model\.blocks\.\d+\.attn\.[qv]_bias')


def unused_biases(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> set[str]:
    """Return the biases of q and v that the model lacks, if they are all zero and thus have no effect.

    The result also contains the key of the joint bias, from which :func:`_split_biases` makes them.
    """
    biases = {key for key in found.keys() - expected.keys() if _BIAS.fullmatch(key)}
    if any(bool(torch.any(found[key] != 0)) for key in biases):
        return set()
    return biases | {re.sub(r'[qv]_bias$', 'qkv.bias', key) for key in biases}


def timm_hints(model_name: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return known remedies for the differences between a TimmBackbone and a file."""
    name = model_name.partition('.')[0]
    hints = []

    def only(side: Mapping[str, Tensor], other: Mapping[str, Tensor], pattern: str) -> bool:
        return any(re.fullmatch(pattern, key) for key in side.keys() - other.keys())

    if only(found, expected, _BIAS.pattern):
        hints.append(
            'the file has biases of q and v that are not zero: '
            f'set model.backbone.model_name={name + "_qkvb"!r}'
        )
    if only(expected, found, _BIAS.pattern):
        hints.append(
            f'the file has no biases of q and v: set model.backbone.model_name={name.removesuffix("_qkvb")!r}'
        )
    if only(found, expected, r'model\.reg_token'):
        with_registers = name.replace('_dinov2', '_reg4_dinov2')
        hints.append(f'the file has registers: set model.backbone.model_name={with_registers!r}')
    if only(expected, found, r'model\.reg_token'):
        hints.append(
            f'the file has no registers: set model.backbone.model_name={name.replace("_reg4", "")!r}'
        )
    position, patch = 'model.pos_embed', 'model.patch_embed.proj.weight'
    if not hints and position in expected and position in found and patch in expected:
        count, own = found[position].shape[1], expected[position].shape[1]
        extra = own - math.isqrt(own) ** 2  # entries outside a square grid, such as the class token
        grid = math.isqrt(max(count - extra, 0))
        if count != own and grid * grid == count - extra:
            size = grid * expected[patch].shape[-1]
            hints.append(
                f'the file requires model.backbone.img_size={size} in the config; position embeddings are '
                'resized in the forward pass, never in a checkpoint'
            )
    return hints
