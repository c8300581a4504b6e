"""Image encoders of transformers for TimmBackbone: ViT, ViTMAE, CLIP and SigLIP."""

from collections.abc import Mapping

from .table import Changed, Format
from .vit import CLASSIFIER, DECODER, HUGGING_FACE_QKV, MASK, POOLED

_TEXT = 'text encoder and projections to the joint space'

_VIT = {
    'embeddings.cls_token': 'cls_token',
    'embeddings.position_embeddings': 'pos_embed',
    'embeddings.patch_embeddings.projection.*': 'patch_embed.proj.*',
    'encoder.layer.#.layernorm_before.*': 'blocks.#.norm1.*',
    'encoder.layer.#.layernorm_after.*': 'blocks.#.norm2.*',
    f'encoder.layer.#.{HUGGING_FACE_QKV}.*': 'blocks.#.attn.qkv.*',
    'encoder.layer.#.attention.output.dense.*': 'blocks.#.attn.proj.*',
    'encoder.layer.#.intermediate.dense.*': 'blocks.#.mlp.fc1.*',
    'encoder.layer.#.output.dense.*': 'blocks.#.mlp.fc2.*',
    'layernorm.*': 'norm.*',
}
_CLIP: dict[str, str | Changed] = {
    'embeddings.class_embedding': Changed('cls_token', 1, lambda x: x[None, None]),
    'embeddings.position_embedding.weight': Changed('pos_embed', 2, lambda x: x[None]),
    'embeddings.patch_embedding.*': 'patch_embed.proj.*',
    'pre_layrnorm.*': 'norm_pre.*',  # spelt like this
    'encoder.layers.#.layer_norm#.*': 'blocks.#.norm#.*',
    'encoder.layers.#.self_attn.{q_proj,k_proj,v_proj}.*': 'blocks.#.attn.qkv.*',
    'encoder.layers.#.self_attn.out_proj.*': 'blocks.#.attn.proj.*',
    'encoder.layers.#.mlp.fc#.*': 'blocks.#.mlp.fc#.*',
    'post_layernorm.*': 'norm.*',
}


def _format(
    name: str,
    prefix: str,
    keys: Mapping[str, str | Changed],
    signature: tuple[str, ...],
    dropped: Mapping[str, str],
) -> Format:
    """Return a format whose keys of the encoder begin with ``prefix``."""
    targets = {
        f'{prefix}{theirs}': ours._replace(key=f'model.{ours.key}')
        if isinstance(ours, Changed)
        else f'model.{ours}'
        for theirs, ours in keys.items()
    }
    return Format(name, tuple(f'{prefix}{key}' for key in signature), targets, dropped)


HUGGING_FACE_FORMATS = (
    *(
        _format(
            'Hugging Face ViT',
            prefix,
            _VIT,
            ('embeddings.position_embeddings', 'encoder.layer.0.layernorm_before.weight'),
            {
                f'{prefix}embeddings.mask_token': MASK,
                f'{prefix}pooler.dense.*': POOLED,
                'classifier.*': CLASSIFIER,
                'decoder.**': DECODER,
            },
        )
        for prefix in ('', 'vit.')
    ),
    *(
        _format(
            'Hugging Face CLIP or SigLIP',
            prefix,
            _CLIP,
            ('embeddings.position_embedding.weight', 'encoder.layers.0.layer_norm1.weight'),
            {
                f'{prefix}embeddings.position_ids': 'numbers of the positions',
                f'{prefix}head.**': POOLED,
                'classifier.*': CLASSIFIER,
                'text_model.**': _TEXT,
                '{text_projection,visual_projection}.*': _TEXT,
                '{logit_scale,logit_bias}': _TEXT,
            },
        )
        for prefix in ('', 'vision_model.')
    ),
)

ACTIVATIONS = {'gelu': 'GELU', 'quick_gelu': 'QuickGELU', 'gelu_pytorch_tanh': 'GELUTanh'}
"""Class in timm of the activation that ``config.json`` names."""

HUGGING_FACE_FILES = ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin')
"""Names of the weights to which a ``config.json`` in the same folder belongs."""


def default_activation(model_type: object) -> str | None:
    """Return the activation of an encoder whose ``config.json`` omits ``hidden_act``, None if unknown.

    transformers omits values that equal its defaults.
    """
    defaults = {'siglip': 'gelu_pytorch_tanh', 'clip': 'quick_gelu'}
    return next((name for kind, name in defaults.items() if str(model_type).startswith(kind)), None)
