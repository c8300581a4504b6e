"""Key tables of every known source, and recognising which one a file comes from."""

from collections.abc import Collection, Mapping
from typing import TypeVar

from .mmseg import DPT, MMSEG_DPT
from .table import Format, Report, convert, first
from .vit import FOREIGN_VITS, MMSEG_VIT, TIMM_HYBRID, TIMM_VIT, TRAINED_VIT, why_not

__all__ = [
    'BACKBONE_FORMATS',
    'DPT',
    'MMSEG_DPT',
    'MODEL_FORMATS',
    'OWN_BACKBONES',
    'OWN_MODELS',
    'TIMM_VIT',
    'Format',
    'Report',
    'convert',
    'convert_known',
    'first',
    'recognise',
]

T = TypeVar('T')
CONVERTER = 'tools/model_converters/vit2mmseg.py'

# The first format whose signature a file has is taken.
MODEL_FORMATS = (MMSEG_DPT, DPT)
BACKBONE_FORMATS = (TIMM_HYBRID, *FOREIGN_VITS, MMSEG_VIT, TRAINED_VIT)

# For files that hold exactly the module's own names, whatever parts it has.
OWN_MODELS = (DPT,)
OWN_BACKBONES = (DPT, TRAINED_VIT)


def recognise(keys: Collection[str], formats: tuple[Format, ...]) -> Format:
    """Return the first of the formats whose signature keys are all among ``keys``.

    Raises:
        ValueError: none fits; the message says what was looked for, what was found, and what to do.
    """
    for candidate in formats:
        if candidate.fits(keys):
            return candidate
    absent = {one.name: next(key for key in reversed(one.signature) if key not in keys) for one in formats}
    looked_for = ', '.join(f'{name} ({key})' for name, key in absent.items())
    found = f'{len(keys)} keys, such as {", ".join(sorted(keys)[:5])}' if keys else 'no keys'
    bare = next((known.name for known in (*FOREIGN_VITS, MMSEG_VIT) if known.fits(keys)), None)
    if bare:
        advice = f'This is a bare backbone in {bare} keys, to be loaded as the weights of the backbone'
    elif DPT.fits(keys):
        advice = (
            'This is a whole DPT of MMSegmentation or of this package: it loads as it is, by tools/test.py, '
            'load_from and init_model, or as the weights of the backbone'
        )
    else:
        advice = why_not(keys) or f'Weights of a plain ViT load as a backbone, or go through {CONVERTER}'
    raise ValueError(f'looked for the keys of {looked_for}; found {found}. {advice}')


def convert_known(state_dict: Mapping[str, T], formats: tuple[Format, ...]) -> tuple[dict[str, T], Report]:
    """Recognise the source among ``formats`` and convert every key of it.

    Raises:
        ValueError: the source is not recognised, its table does not cover a key, or two keys have one target.
    """
    source = recognise(state_dict, formats)
    converted, report = convert(state_dict, source)
    if report.unmapped:
        reason = why_not(report.unmapped)
        raise ValueError(
            f'{len(report.unmapped)} of {len(state_dict)} keys are not in the table of {source.name} keys, '
            f'and without them the model would compute something else: {first(report.unmapped)}. '
            f'{reason}{". " if reason else ""}Expected is a plain ViT (class token; no registers, '
            f'distillation token or q/k norm), as {CONVERTER} takes it'
        )
    return converted, report
