"""Key tables as data: how each known source names the tensors that our modules hold.

A :class:`Format` is recognised by the keys it must contain and carries the ordered rules that turn its keys
into ours. Nothing here touches a tensor.
"""

from collections.abc import Collection
from dataclasses import dataclass

CONVERTER = 'tools/model_converters/vit2mmseg.py'


@dataclass(frozen=True)
class Rule:
    """One line of a key table.

    Args:
        pattern: regular expression that must match the whole source key.
        replacement: our key, with groups as ``\\1``; None where the key is knowingly dropped.
        reason: why a key is dropped; empty for keys that are kept.
    """

    pattern: str
    replacement: str | None
    reason: str = ''

    def __post_init__(self) -> None:
        assert (self.replacement is None) == bool(self.reason), (
            f'{self.pattern}: a dropped key needs a reason'
        )


@dataclass(frozen=True)
class Format:
    """A source of checkpoints: its name, the keys that every such file has, and its rules in order."""

    name: str
    signature: tuple[str, ...]
    rules: tuple[Rule, ...]

    def fits(self, keys: Collection[str]) -> bool:
        """Whether ``keys`` hold the whole signature."""
        return all(key in keys for key in self.signature)


_PRETRAINING_HEAD = 'classifier of the pretraining task'
_MASK = 'stands for hidden patches in masked pretraining, never used afterwards'
_AUXILIARY = 'auxiliary head of training, of another layout than ours, without effect on predictions'
_NOT_BACKBONE = 'not part of the backbone'

TIMM_VIT = Format(
    name='timm',
    signature=('patch_embed.proj.weight', 'blocks.0.norm1.weight'),
    rules=(
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
        Rule(r'head\.(weight|bias)', None, _PRETRAINING_HEAD),
        Rule(r'mask_token', None, _MASK),
    ),
)
"""Plain ViT of timm, DeiT and DINOv2. Distilled tokens, registers, q/k norms, ``pre_logits`` and ``fc_norm``
change the model's output, so they are no rule's business: such a file is refused."""

_OUR_BACKBONE_KEYS = (
    r'(cls_token|pos_embed)',
    r'(patch_embed\.projection\.(?:weight|bias))',
    r'(layers\.\d+\.ln[12]\.(?:weight|bias))',
    r'(layers\.\d+\.attn\.attn\.in_proj_(?:weight|bias))',
    r'(layers\.\d+\.attn\.attn\.out_proj\.(?:weight|bias))',
    r'(layers\.\d+\.ffn\.layers\.(?:0\.0|1)\.(?:weight|bias))',
    r'(layers\.\d+\.ls[12]\.gamma)',
    r'(ln1\.(?:weight|bias))',
)

MMSEG_VIT = Format(
    name='MMSegmentation',
    signature=('patch_embed.projection.weight', 'layers.0.ln1.weight'),
    rules=tuple(Rule(key, r'\1') for key in _OUR_BACKBONE_KEYS),
)
"""Bare backbone keys, as ``vit2mmseg.py`` writes them. Our names are the same."""

TRAINED_VIT = Format(
    name='trained model',
    signature=tuple(f'backbone.{key}' for key in MMSEG_VIT.signature),
    rules=(
        *(Rule(rf'backbone\.{key}', r'\1') for key in _OUR_BACKBONE_KEYS),
        Rule(r'(neck|decode_head|auxiliary_heads?)\..+', None, _NOT_BACKBONE),
    ),
)
"""The backbone inside a whole trained model, ours or MMSegmentation's."""

MMSEG_DPT = Format(
    name='MMSegmentation DPT',
    signature=('backbone.patch_embed.projection.weight', 'decode_head.fusion_blocks.0.project.conv.weight'),
    rules=(
        Rule(r'(backbone\..+)', r'\1'),
        Rule(r'decode_head\.(reassemble_blocks|convs|fusion_blocks)\.(.+)', r'neck.\1.\2'),
        Rule(r'(decode_head\.(?:project|conv_seg)\..+)', r'\1'),
        Rule(r'auxiliary_head\..+', None, _AUXILIARY),
    ),
)
"""Whole DPT of MMSegmentation 0.17 to 1.2: its head holds what is our neck."""

DPT = Format(
    name='dpt',
    signature=('backbone.patch_embed.projection.weight', 'decode_head.conv_seg.weight'),
    rules=(Rule(r'(.+)', r'\1'),),
)
"""Whole models that this package trained: the names are the model's own, whatever parts it has."""

BACKBONE_FORMATS = (TIMM_VIT, MMSEG_VIT, TRAINED_VIT)
MODEL_FORMATS = (MMSEG_DPT, DPT)  # in this order: the first has every key of the second's signature


def recognise(keys: Collection[str], formats: tuple[Format, ...]) -> Format:
    """Find the first of the formats whose signature keys are all among ``keys``.

    Raises:
        ValueError: none fits; the message says what was looked for, what was found, and what to do.
    """
    for candidate in formats:
        if candidate.fits(keys):
            return candidate
    looked_for = ' or '.join(f'{one.name} keys ({", ".join(one.signature)})' for one in formats)
    raise ValueError(f'looked for {looked_for}; found {_sample(keys)}. {_advice(keys)}')


def _sample(keys: Collection[str], count: int = 5) -> str:
    return f'{len(keys)} keys, such as {", ".join(sorted(keys)[:count])}' if keys else 'no keys'


def _advice(keys: Collection[str]) -> str:
    for known in BACKBONE_FORMATS[:2]:
        if known.fits(keys):
            return (
                f'This is a bare backbone in {known.name} keys, to be loaded as the weights of the backbone'
            )
    return f'Plain ViT weights in timm keys load as a backbone, or go through {CONVERTER}'
