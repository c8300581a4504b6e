"""Vision transformers that our backbone cannot hold, told by their keys, and why."""

import re
from collections.abc import Iterable

_REASONS: tuple[tuple[str, str], ...] = (
    (
        r'dpt\..+',
        "a whole DPT in Hugging Face's keys, which are not read; the original's files of it are, by "
        'tools/model_converters/isl2dpt.py',
    ),
    (
        r'(.+\.)?(blocks|layers)\.\d+\.attn\.rel_pos_[hw]',
        'the image encoder of SAM, or one of its kind: attention in windows with relative positions, which a '
        'ViT with global attention and an absolute position embedding cannot represent',
    ),
    (
        r'(.+\.)?(relative_position_bias_table|relative_position_index|attn\.[qv]_bias|lambda_[12])',
        'BEiT: its attention adds a relative position bias in every layer, which the backbone has not',
    ),
    (
        r'(.+\.)?(dist_token|distillation_token)',
        'a distilled DeiT: class token and patches attend to its distillation token in every layer. '
        '--drop-dist-token of tools/model_converters/vit2mmseg.py leaves the token out of a file in the keys '
        'of timm and DeiT; the features are then no longer those of the distilled model',
    ),
    (
        r'(.+\.)?(reg_token|register_tokens|storage_tokens)',
        'a ViT with registers: class token and patches attend to them in every layer, and the backbone has '
        'none. DINOv2 is also published without registers',
    ),
    (
        r'(.+\.)?(norm_pre|ln_pre|pre_layrnorm)\.(weight|bias)|visual\..+|(.+\.)?class_embedding',
        'the visual tower of CLIP: its tokens are normalised before the first layer, which the backbone does '
        'not do',
    ),
    (
        r'(.+\.)?(attn_pool\..+|head\.probe)|(vision_model\.)?embeddings\.patch_embedding\.weight',
        'the visual tower of SigLIP: it has no class token, and the tanh approximation of GELU',
    ),
    (
        r'(.+\.)?mlp\.(w12|w3|weights_in|fc1_g|gate_proj)\..+',
        'a ViT with a gated feed-forward part (SwiGLU), which the backbone has not',
    ),
    (r'(.+\.)?([qk]_norm|norm_[qk])\.(weight|bias)', 'a ViT that normalises queries and keys'),
    (r'(.+\.)?rope(_embed|_embeddings)?\..+', 'a ViT with rotary position embedding'),
    (
        r'(.+\.)?blocks\.\d+\.gamma_[12]',
        'a ViT of the kind of DeiT III: its position embedding has no entry for the class token',
    ),
)


def why_not(keys: Iterable[str]) -> str:
    """A sentence about which known model the keys belong to and what of it cannot be held; empty if none."""
    listed = list(keys)
    for pattern, reason in _REASONS:
        if any(re.fullmatch(pattern, key) for key in listed):
            return f'This is {reason}'
    return ''
