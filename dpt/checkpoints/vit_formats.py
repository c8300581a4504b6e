"""Key tables of plain ViTs: how each known source names what our backbone holds."""

from dataclasses import replace

from .format import Format, Rule

_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_HALF = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))

_PRETRAINING_HEAD = 'classifier of the pretraining task'
_POOLED = 'acts on pooled tokens, in front of the classifier of the pretraining task'
_MASK = 'stands for hidden patches in masked pretraining, never used afterwards'
_DECODER = 'decoder of masked pretraining'
_PROJECTION = 'projection head of self-supervised pretraining'
_DISTILLATION = 'distillation token, left out on request'
_NOT_BACKBONE = 'not part of the backbone'

_TIMM_SIGNATURE = ('patch_embed.proj.weight', 'blocks.0.norm1.weight')
_TIMM_RULES = (
    Rule(r'(cls_token|pos_embed)', r'\1'),
    Rule(r'patch_embed\.proj\.(weight|bias)', r'patch_embed.projection.\1'),
    Rule(r'blocks\.(\d+)\.norm([12])\.(weight|bias)', r'layers.\1.ln\2.\3'),
    # timm stacks q, k, v in the rows of one matrix, in the order of nn.MultiheadAttention.
    Rule(r'blocks\.(\d+)\.attn\.qkv\.(weight|bias)', r'layers.\1.attn.attn.in_proj_\2'),
    Rule(r'blocks\.(\d+)\.attn\.proj\.(weight|bias)', r'layers.\1.attn.attn.out_proj.\2'),
    Rule(r'blocks\.(\d+)\.mlp\.fc1\.(weight|bias)', r'layers.\1.ffn.layers.0.0.\2'),
    Rule(r'blocks\.(\d+)\.mlp\.fc2\.(weight|bias)', r'layers.\1.ffn.layers.1.\2'),
    Rule(r'blocks\.(\d+)\.ls([12])\.gamma', r'layers.\1.ls\2.gamma'),
    Rule(r'norm\.(weight|bias)', r'ln1.\1'),
)
_TIMM_HEAD = (
    Rule(r'head\.(weight|bias)', None, _PRETRAINING_HEAD),
    Rule(r'(pre_logits\.fc|fc_norm)\.(weight|bias)', None, _POOLED),
)

TIMM_VIT = Format('timm', _TIMM_SIGNATURE, (*_TIMM_RULES, *_TIMM_HEAD), norm_eps=1e-6)
"""Plain ViT of timm; the backbone files of DeiT, DINO and MAE have the very same keys. Distillation token,
registers and q/k norms change the tokens, so they are no rule's business: such a file is refused."""

TIMM_HYBRID = Format(
    'timm, hybrid',
    (*_TIMM_SIGNATURE, 'patch_embed.backbone.stem.conv.weight'),
    (Rule(r'patch_embed\.backbone\.((?:stem|stages)\..+)', r'\1'), *_TIMM_RULES, *_TIMM_HEAD),
    norm_eps=1e-6,
    mean_std=_HALF,
)
"""ViT behind a ResNet stem: ``vit_base_resnet50_384`` of timm 0.4.5, ``vit_base_r50_s16_384`` today."""

DINOV2 = Format(
    'DINOv2',
    (*_TIMM_SIGNATURE, 'blocks.0.ls1.gamma', 'mask_token'),
    (*_TIMM_RULES, *_TIMM_HEAD, Rule(r'mask_token', None, _MASK)),
    norm_eps=1e-6,
    mean_std=_IMAGENET,
)
"""DINOv2 as its authors publish it: timm's keys and a mask token."""

MAE = Format(
    'MAE',
    (*_TIMM_SIGNATURE, 'mask_token', 'decoder_embed.weight'),
    (*_TIMM_RULES, Rule(r'mask_token', None, _MASK), Rule(r'decoder_.+', None, _DECODER)),
    norm_eps=1e-6,
    mean_std=_IMAGENET,
)
"""MAE with its decoder."""

DINO = Format(
    'DINO',
    tuple(f'backbone.{key}' for key in _TIMM_SIGNATURE),
    (*(rule.under(r'backbone\.') for rule in _TIMM_RULES), Rule(r'head\..+', None, _PROJECTION)),
    norm_eps=1e-6,
    mean_std=_IMAGENET,
)
"""Teacher or student of DINO: the backbone under a prefix, and a projection head."""

DEIT_DISTILLED = Format(
    'DeiT, distilled',
    (*_TIMM_SIGNATURE, 'dist_token'),
    (
        Rule(r'pos_embed', r'pos_embed', transform='without second position'),
        *_TIMM_RULES,
        *_TIMM_HEAD,
        Rule(r'dist_token', None, _DISTILLATION),
        Rule(r'head_dist\.(weight|bias)', None, _PRETRAINING_HEAD),
    ),
    norm_eps=1e-6,
    mean_std=_IMAGENET,
)
"""A distilled DeiT without its distillation token. Not in :data:`BACKBONE_FORMATS`: class token and patches
attended to that token in every layer, so its tokens are not the same without it."""

_BLOCK = r'Transformer/encoderblock_(\d+)/'
_ATTENTION = rf'{_BLOCK}MultiHeadDotProductAttention_1/'
_QKV = r'(?P<part>query|key|value)'
_QKV_PARTS = ('query', 'key', 'value')

GOOGLE_VIT = Format(
    'Google npz',
    ('embedding/kernel', 'Transformer/encoderblock_0/LayerNorm_0/scale'),
    (
        Rule(r'cls', r'cls_token'),
        Rule(r'Transformer/posembed_input/pos_embedding', r'pos_embed'),
        Rule(r'embedding/kernel', r'patch_embed.projection.weight', transform='conv kernel'),
        Rule(r'embedding/bias', r'patch_embed.projection.bias'),
        Rule(_BLOCK + r'LayerNorm_0/scale', r'layers.\1.ln1.weight'),
        Rule(_BLOCK + r'LayerNorm_0/bias', r'layers.\1.ln1.bias'),
        Rule(_BLOCK + r'LayerNorm_2/scale', r'layers.\1.ln2.weight'),
        Rule(_BLOCK + r'LayerNorm_2/bias', r'layers.\1.ln2.bias'),
        Rule(
            rf'{_ATTENTION}{_QKV}/kernel',
            r'layers.\1.attn.attn.in_proj_weight',
            transform='into heads',
            parts=_QKV_PARTS,
        ),
        Rule(
            rf'{_ATTENTION}{_QKV}/bias',
            r'layers.\1.attn.attn.in_proj_bias',
            transform='flat',
            parts=_QKV_PARTS,
        ),
        Rule(_ATTENTION + r'out/kernel', r'layers.\1.attn.attn.out_proj.weight', transform='out of heads'),
        Rule(_ATTENTION + r'out/bias', r'layers.\1.attn.attn.out_proj.bias'),
        Rule(
            _BLOCK + r'MlpBlock_3/Dense_0/kernel',
            r'layers.\1.ffn.layers.0.0.weight',
            transform='dense kernel',
        ),
        Rule(_BLOCK + r'MlpBlock_3/Dense_0/bias', r'layers.\1.ffn.layers.0.0.bias'),
        Rule(
            _BLOCK + r'MlpBlock_3/Dense_1/kernel', r'layers.\1.ffn.layers.1.weight', transform='dense kernel'
        ),
        Rule(_BLOCK + r'MlpBlock_3/Dense_1/bias', r'layers.\1.ffn.layers.1.bias'),
        Rule(r'Transformer/encoder_norm/scale', r'ln1.weight'),
        Rule(r'Transformer/encoder_norm/bias', r'ln1.bias'),
        Rule(r'head/(kernel|bias)', None, _PRETRAINING_HEAD),
        Rule(r'pre_logits/(kernel|bias)', None, _POOLED),
    ),
    norm_eps=1e-6,
    mean_std=_HALF,
)
"""The ``.npz`` files of google-research/vision_transformer."""

_LAYER = r'encoder\.layers\.encoder_layer_(\d+)\.'

TORCHVISION_VIT = Format(
    'torchvision',
    ('conv_proj.weight', 'encoder.layers.encoder_layer_0.ln_1.weight'),
    (
        Rule(r'class_token', r'cls_token'),
        Rule(r'encoder\.pos_embedding', r'pos_embed'),
        Rule(r'conv_proj\.(weight|bias)', r'patch_embed.projection.\1'),
        Rule(_LAYER + r'ln_([12])\.(weight|bias)', r'layers.\1.ln\2.\3'),
        Rule(_LAYER + r'self_attention\.in_proj_(weight|bias)', r'layers.\1.attn.attn.in_proj_\2'),
        Rule(_LAYER + r'self_attention\.out_proj\.(weight|bias)', r'layers.\1.attn.attn.out_proj.\2'),
        # mlp.linear_1 and linear_2 are how torchvision named them before 0.12.1.
        Rule(_LAYER + r'mlp\.(?:0|linear_1)\.(weight|bias)', r'layers.\1.ffn.layers.0.0.\2'),
        Rule(_LAYER + r'mlp\.(?:3|linear_2)\.(weight|bias)', r'layers.\1.ffn.layers.1.\2'),
        Rule(r'encoder\.ln\.(weight|bias)', r'ln1.\1'),
        Rule(r'heads\.head\.(weight|bias)', None, _PRETRAINING_HEAD),
        Rule(r'heads\.pre_logits\.(weight|bias)', None, _POOLED),
    ),
    norm_eps=1e-6,
    mean_std=_IMAGENET,
)
"""``vit_b_16`` and its kind in torchvision."""


def _hugging_face(
    name: str, prefix: str, layer: str, norms: tuple[str, str], inner: tuple[Rule, ...], norm_eps: float
) -> Format:
    """A ViT of transformers.

    Args:
        name: of the format.
        prefix: of the backbone inside a model with a head, ``'vit.'``; empty for the backbone alone.
        layer: name of the list of layers.
        norms: names of the two norms of a layer.
        inner: rules for the rest of a layer, without the layer's own name and number.
        norm_eps: of the models that were released.
    """
    escaped, of_layer = prefix.replace('.', r'\.'), layer.replace('.', r'\.') + r'\.(\d+)\.'
    rules = (
        Rule(r'embeddings\.cls_token', r'cls_token'),
        Rule(r'embeddings\.position_embeddings', r'pos_embed'),
        Rule(r'embeddings\.patch_embeddings\.projection\.(weight|bias)', r'patch_embed.projection.\1'),
        Rule(r'embeddings\.mask_token', None, _MASK),
        *(
            Rule(rf'{of_layer}{norm}\.(weight|bias)', rf'layers.\1.ln{i}.\2')
            for i, norm in enumerate(norms, 1)
        ),
        *(
            Rule(of_layer + rule.pattern, rule.replacement, transform=rule.transform, parts=rule.parts)
            for rule in inner
        ),
        Rule(r'layernorm\.(weight|bias)', r'ln1.\1'),
        Rule(r'pooler\.dense\.(weight|bias)', None, _POOLED),
    )
    heads = (
        Rule(r'classifier\.(weight|bias)', None, _PRETRAINING_HEAD),
        Rule(r'decoder\..+', None, _DECODER),
    )
    return Format(
        name,
        (f'{prefix}embeddings.position_embeddings', f'{prefix}{layer}.0.{norms[0]}.weight'),
        (*(rule.under(escaped) for rule in rules), *heads),
        norm_eps=norm_eps,
    )


_IN_PROJ = r'layers.\1.attn.attn.in_proj_\3'
_OUT_PROJ = r'layers.\1.attn.attn.out_proj.\2'
_FC1, _FC2 = r'layers.\1.ffn.layers.0.0.\2', r'layers.\1.ffn.layers.1.\2'
_SPLIT_IN_FILES = (
    Rule(rf'attention\.attention\.{_QKV}\.(weight|bias)', _IN_PROJ, parts=_QKV_PARTS),
    Rule(r'attention\.output\.dense\.(weight|bias)', _OUT_PROJ),
)
# transformers 5 gives its parameters other names than its files.
_SPLIT_IN_MEMORY = (
    Rule(r'attention\.(?P<part>[qkv]_proj)\.(weight|bias)', _IN_PROJ, parts=('q_proj', 'k_proj', 'v_proj')),
    Rule(r'attention\.o_proj\.(weight|bias)', _OUT_PROJ),
)
_MLP = (Rule(r'mlp\.fc1\.(weight|bias)', _FC1), Rule(r'mlp\.fc2\.(weight|bias)', _FC2))
_DENSE = (Rule(r'intermediate\.dense\.(weight|bias)', _FC1), Rule(r'output\.dense\.(weight|bias)', _FC2))
_LAYER_SCALE = (Rule(r'layer_scale([12])\.lambda1', r'layers.\1.ls\2.gamma'),)
_VIT_NORMS, _DINOV2_NORMS = ('layernorm_before', 'layernorm_after'), ('norm1', 'norm2')

HUGGING_FACE = (
    *(
        _hugging_face('Hugging Face ViT', prefix, layer, _VIT_NORMS, inner, 1e-12)
        for prefix in ('', 'vit.')
        for layer, inner in (
            ('encoder.layer', (*_SPLIT_IN_FILES, *_DENSE)),
            ('layers', (*_SPLIT_IN_MEMORY, *_MLP)),
        )
    ),
    *(
        _hugging_face(
            'Hugging Face DINOv2',
            prefix,
            'encoder.layer',
            _DINOV2_NORMS,
            (*_SPLIT_IN_FILES, *_SPLIT_IN_MEMORY, *_MLP, *_LAYER_SCALE),
            1e-6,
        )
        for prefix in ('', 'dinov2.')
    ),
)
"""``ViTModel``, ``ViTForImageClassification``, ``ViTMAEForPreTraining``, ``Dinov2Model`` and their kind."""

_OUR_BACKBONE_KEYS = (
    r'(cls_token|pos_embed)',
    r'(patch_embed\.projection\.(?:weight|bias))',
    r'(layers\.\d+\.ln[12]\.(?:weight|bias))',
    r'(layers\.\d+\.attn\.attn\.in_proj_(?:weight|bias))',
    r'(layers\.\d+\.attn\.attn\.out_proj\.(?:weight|bias))',
    r'(layers\.\d+\.ffn\.layers\.(?:0\.0|1)\.(?:weight|bias))',
    r'(layers\.\d+\.ls[12]\.gamma)',
    r'(ln1\.(?:weight|bias))',
    r'((?:stem|stages)\.[\w.]+)',  # of a hybrid
)

MMSEG_VIT = Format(
    'MMSegmentation',
    ('patch_embed.projection.weight', 'layers.0.ln1.weight'),
    tuple(Rule(key, r'\1') for key in _OUR_BACKBONE_KEYS),
)
"""Bare backbone keys, as ``vit2mmseg.py`` writes them. Our names are the same."""

TRAINED_VIT = Format(
    'trained model',
    tuple(f'backbone.{key}' for key in MMSEG_VIT.signature),
    (
        *(Rule(rf'backbone\.{key}', r'\1') for key in _OUR_BACKBONE_KEYS),
        Rule(r'(neck|decode_head|auxiliary_heads?)\..+', None, _NOT_BACKBONE),
    ),
)
"""The backbone inside a whole trained model, ours or MMSegmentation's."""

OWN_IN_MODEL = replace(TRAINED_VIT, rules=(Rule(r'backbone\.(.+)', r'\1'), TRAINED_VIT.rules[-1]))
"""A backbone of any kind inside a whole model: its rules, for files that are told by the module's names."""

FOREIGN_VITS = (MAE, DINOV2, TIMM_VIT, DINO, GOOGLE_VIT, TORCHVISION_VIT, *HUGGING_FACE)
"""Plain ViTs in others' keys. The first two have every key of the third's signature."""

BACKBONE_FORMATS = (TIMM_HYBRID, *FOREIGN_VITS, MMSEG_VIT, TRAINED_VIT)
