"""Models of timm that backbones.py checks, and their counterparts in transformers."""

from typing import Any

ODD = (75, 107)  # pixels, no multiples of any patch
HEAD = dict(type='DPTHead', in_channels=8, num_classes=3)
TINY = dict(embed_dim=48, depth=4, num_heads=4)
FOUR, LAST_FOUR = dict(out_indices=(0, 1, 2, 3)), dict(out_indices=(1, 2, 3, 4))
VIT = dict(FOUR, model_args=TINY)
NORMED = dict(VIT, norm_taps=True)
DINOV2 = dict(NORMED, img_size=112)
SWIN = dict(FOUR, model_args=dict(embed_dim=24, depths=(2, 2, 2, 2)))
WITH_ARGUMENTS: list[tuple[str, dict[str, Any]]] = [
    ('vit_small_patch14_dinov2', dict(DINOV2, pos_embed_resize='bicubic')),  # as in transformers
    ('vit_small_patch14_reg4_dinov2', DINOV2),
    ('vit_giant_patch14_reg4_dinov2', dict(DINOV2, model_args=dict(TINY, mlp_ratio=5.0))),
    ('vit_small_patch16_dinov3 vit_small_patch16_dinov3_qkvb vit_small_plus_patch16_dinov3_qkvb', NORMED),
    ('vit_tiny_patch16_224 vit_base_patch16_clip_quickgelu_224', NORMED),
    ('vit_base_patch16_siglip_224', dict(NORMED, model_args=dict(TINY, act_layer='gelu_tanh'))),
    ('deit3_small_patch16_224 eva02_tiny_patch14_224 vit_small_patch16_rope_224', VIT),
    ('vit_pe_core_tiny_patch16_384 beit3_base_patch16_224 samvit_base_patch16_224', VIT),
    ('naflexvit_base_patch16_gap', VIT),
    ('beitv2_base_patch16_224', dict(VIT, img_size=64)),
    ('swin_tiny_patch4_window7_224 swinv2_tiny_window8_256', SWIN),
    ('vitamin_small_224 convnext_atto convnextv2_atto pvt_v2_b0 hiera_tiny_224 sam2_hiera_tiny', FOUR),
    ('twins_svt_small davit_tiny nextvit_small edgenext_xx_small', FOUR),
    ('maxvit_pico_rw_256 resnet18 efficientnet_b0 regnetx_002', LAST_FOUR),
]
MODELS = {name: arguments for names, arguments in WITH_ARGUMENTS for name in names.split()}
ANY_SIZE = ('vit_small_patch14_reg4_dinov2', 'convnext_atto', 'vit_small_patch16_dinov3')  # also exported so

SIZES = dict(hidden_size=48, num_hidden_layers=4, num_attention_heads=4, intermediate_size=192, patch_size=16)
HF_DINOV2 = dict(SIZES, patch_size=14, image_size=112, mlp_ratio=4)
HF_DINOV3 = dict(SIZES, num_register_tokens=4)
# Model of transformers, arguments of its config, and number of tokens before the patches.
REFERENCES: dict[str, tuple[str, dict[str, Any], int]] = {
    'vit_tiny_patch16_224': ('ViT', dict(SIZES, layer_norm_eps=1e-6), 1),
    'vit_small_patch14_dinov2': ('Dinov2', HF_DINOV2, 1),
    'vit_small_patch14_reg4_dinov2': ('Dinov2WithRegisters', HF_DINOV2, 5),
    'vit_small_patch16_dinov3_qkvb': ('DINOv3ViT', HF_DINOV3, 5),
    'vit_small_plus_patch16_dinov3_qkvb': (
        'DINOv3ViT',
        dict(HF_DINOV3, use_gated_mlp=True, hidden_act='silu'),
        5,
    ),
    'vit_base_patch16_clip_quickgelu_224': ('CLIPVision', SIZES, 1),
    'vit_base_patch16_siglip_224': ('SiglipVision', SIZES, 0),
}
