"""Key tables of all supported checkpoint formats, and format detection."""

from collections.abc import Collection, Mapping
from typing import TypeVar

from .hugging_face import ACTIVATIONS, HUGGING_FACE_FILES, default_activation
from .mmseg import DPT, MMSEG_DPT
from .published import (
    HEADS,
    PUBLISHED_ENCODERS,
    PUBLISHED_MODELS,
    PUBLISHED_TIMM_ENCODERS,
    PUBLISHED_TIMM_MODELS,
)
from .table import Format, Report, convert, first
from .timm import PERIODS, TIMM, timm_hints, unused_biases
from .timm import TIMM_FORMATS as TIMM_ENCODERS
from .vit import FOREIGN_VITS, MMSEG_VIT, TIMM_HYBRID, TIMM_VIT, TRAINED_VIT, why_not

__all__ = [
    'ACTIVATIONS',
    'BACKBONE_FORMATS',
    'DPT',
    'HEADS_ALONE',
    'HUGGING_FACE_FILES',
    'MMSEG_DPT',
    'MODEL_FORMATS',
    'OWN_BACKBONES',
    'OWN_MODELS',
    'PERIODS',
    'TIMM',
    'TIMM_FORMATS',
    'TIMM_MODELS',
    'TIMM_VIT',
    'Format',
    'Report',
    'convert',
    'convert_known',
    'default_activation',
    'first',
    'recognise',
    'timm_hints',
    'unused_biases',
]

T = TypeVar('T')
CONVERTER = 'tools/model_converters/vit2mmseg.py'

# The first format with a matching signature is used.
MODEL_FORMATS = (MMSEG_DPT, DPT, *PUBLISHED_MODELS)
BACKBONE_FORMATS = (*PUBLISHED_ENCODERS, TIMM_HYBRID, *FOREIGN_VITS, MMSEG_VIT, TRAINED_VIT)
TIMM_MODELS = PUBLISHED_TIMM_MODELS
TIMM_FORMATS = (*PUBLISHED_TIMM_ENCODERS, *TIMM_ENCODERS)

HEADS_ALONE = tuple(source.name for source in HEADS)
"""Formats of files with a neck and a head, without an encoder."""

# For files whose keys are exactly those of the module, whatever its architecture.
OWN_MODELS = (DPT,)
OWN_BACKBONES = (DPT, TRAINED_VIT)


def recognise(keys: Collection[str], formats: tuple[Format, ...]) -> Format:
    """Return the first format whose signature keys are all in ``keys``.

    Raises:
        ValueError: If no format matches. The message lists the expected and the found keys and a remedy.
    """
    for candidate in formats:
        if candidate.fits(keys):
            return candidate
    absent = {one.name: next(key for key in reversed(one.signature) if key not in keys) for one in formats}
    looked_for = ', '.join(f'{name} ({key})' for name, key in absent.items())
    found = f'{len(keys)} keys, such as {", ".join(sorted(keys)[:5])}' if keys else 'no keys'
    bare = next((known.name for known in (*FOREIGN_VITS, MMSEG_VIT) if known.fits(keys)), None)
    if bare:
        advice = f'This is a bare backbone with {bare} keys; load it into the backbone'
    elif DPT.fits(keys):
        advice = (
            'This is a complete DPT of MMSegmentation or of this package and needs no conversion; use it '
            'with tools/test.py, load_from or init_model, or as backbone weights'
        )
    else:
        advice = why_not(keys) or f'Load a plain ViT as a backbone, or convert it with {CONVERTER}'
    raise ValueError(f'looked for the keys of {looked_for}; found {found}. {advice}')


def convert_known(state_dict: Mapping[str, T], formats: tuple[Format, ...]) -> tuple[dict[str, T], Report]:
    """Detect the format among ``formats`` and convert all keys.

    Raises:
        ValueError: If no format matches, its table lacks a key, or two keys have the same target.
    """
    source = recognise(state_dict, formats)
    converted, report = convert(state_dict, source)
    if report.unmapped:
        text = (
            f'{len(report.unmapped)} of {len(state_dict)} keys are not in the table of {source.name} keys, '
            f'and the model would give wrong results without them: {first(report.unmapped)}'
        )
        if formats is not TIMM_FORMATS:
            reason = why_not(report.unmapped)
            text += (
                f'. {reason}{". " if reason else ""}{CONVERTER} supports plain ViTs with a class token and '
                'without registers, distillation token or q/k norm'
            )
        raise ValueError(text)
    return converted, report
