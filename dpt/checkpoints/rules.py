"""Key tables as data: how each known source names the tensors that our modules hold.

A :class:`Format` is recognised by the keys it must contain and carries the ordered rules that turn its keys
into ours. Nothing here touches a tensor. Whole models stand here, bare backbones in ``vit_formats.py``.
"""

from collections.abc import Collection

from .format import CONVERTER, Format, Rule
from .vit_formats import BACKBONE_FORMATS, FOREIGN_VITS, MMSEG_VIT, OWN_IN_MODEL, TIMM_VIT, TRAINED_VIT
from .vit_refusals import why_not

__all__ = [
    'BACKBONE_FORMATS',
    'CONVERTER',
    'DPT',
    'FOREIGN_VITS',
    'MMSEG_DPT',
    'MMSEG_VIT',
    'MODEL_FORMATS',
    'OWN_BACKBONES',
    'OWN_MODELS',
    'TIMM_VIT',
    'TRAINED_VIT',
    'Format',
    'Rule',
    'recognise',
]

_AUXILIARY = 'auxiliary head of training, of another layout than ours, without effect on predictions'

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

MODEL_FORMATS = (MMSEG_DPT, DPT)  # in this order: the first has every key of the second's signature

OWN_MODELS = (DPT,)
"""Tables for files that name exactly the tensors of the module to be filled, whatever parts it has."""

OWN_BACKBONES = (MMSEG_VIT, DPT, OWN_IN_MODEL)
"""The same for a backbone, bare or inside a whole model."""


def recognise(keys: Collection[str], formats: tuple[Format, ...]) -> Format:
    """Find the first of the formats whose signature keys are all among ``keys``.

    Raises:
        ValueError: none fits; the message says what was looked for, what was found, and what to do.
    """
    for candidate in formats:
        if candidate.fits(keys):
            return candidate
    telling = {one.name: _last_absent(one, keys) for one in formats}
    looked_for = ', '.join(f'{name} ({key})' for name, key in telling.items())
    raise ValueError(f'looked for the keys of {looked_for}; found {_sample(keys)}. {_advice(keys)}')


def _last_absent(candidate: Format, keys: Collection[str]) -> str:
    """The most telling key of a signature that is not among ``keys``."""
    return next(key for key in reversed(candidate.signature) if key not in keys)


def _sample(keys: Collection[str], count: int = 5) -> str:
    return f'{len(keys)} keys, such as {", ".join(sorted(keys)[:count])}' if keys else 'no keys'


def _advice(keys: Collection[str]) -> str:
    for known in (*FOREIGN_VITS, MMSEG_VIT):
        if known.fits(keys):
            return (
                f'This is a bare backbone in {known.name} keys, to be loaded as the weights of the backbone'
            )
    if DPT.fits(keys):
        return (
            'This is a whole DPT of MMSegmentation or of this package: it loads as it is, by tools/test.py, '
            'load_from and init_model, or as the weights of the backbone'
        )
    return why_not(keys) or f'Weights of a plain ViT load as a backbone, or go through {CONVERTER}'
