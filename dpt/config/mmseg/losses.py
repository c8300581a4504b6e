"""Translate losses and pixel samplers of MMSegmentation's heads."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpt.config.mmseg.keys import Keys
from dpt.config.parts import arguments
from dpt.registry import MODELS

_PATH = 'model.decode_head.loss_decode'
_LOSSES = ('CrossEntropyLoss', 'DiceLoss', 'FocalLoss', 'LovaszLoss', 'OhemCrossEntropy', 'TverskyLoss')
_SAMPLED = {'CrossEntropyLoss', 'LovaszLoss', 'TverskyLoss'}
"""Losses that work with a sampler in MMSegmentation."""
_FIXED: dict[str, dict[str, Any]] = {
    'CrossEntropyLoss': dict(use_mask=False, reduction='mean'),
    'DiceLoss': dict(reduction='mean'),
    'FocalLoss': dict(reduction='mean'),
}
"""Arguments that must have their default value in MMSegmentation."""


def translate_losses(
    given: Mapping | Sequence[Mapping] | None, sampler: Mapping | None, lines: list[str]
) -> dict | list[dict]:
    """Translate ``loss_decode`` and ``sampler`` of a head.

    Args:
        given: The value of ``loss_decode``.
        sampler: The value of ``sampler``, which becomes an argument of the cross-entropy.
        lines: List to which a line is appended for each change.

    Raises:
        ValueError: If a value has no equivalent; the message begins with its key.
    """
    given = dict(type='CrossEntropyLoss') if given is None else given
    several = isinstance(given, list)
    losses = [
        _translate(loss, f'{_PATH}.{i}' if several else _PATH, lines)
        for i, loss in enumerate(given if several else [given])
    ]
    lines.append(f'{_PATH} -> model.loss')
    if sampler is not None:
        _add_sampler(losses, dict(sampler), lines)
    return losses if len(losses) > 1 else losses[0]


def _translate(loss: Any, path: str, lines: list[str]) -> dict:
    keys = Keys(loss, path, lines)
    kind = keys.take('type', None)
    if kind not in _LOSSES:
        raise ValueError(f'{path}.type={kind!r} cannot be translated: expected one of {", ".join(_LOSSES)}')
    for name, value in _FIXED.get(kind, {}).items():
        keys.expect(name, value)
    if kind == 'OhemCrossEntropy' and 'ignore_label' in keys.left:
        label = keys.take('ignore_label')
        lines.append(f'{path}.ignore_label={label}: dropped, the ignore_index of the data set applies')
    cls = MODELS.get(kind)
    known = arguments(cls)[0] if cls else {}
    translated = {'type': kind, **{name: keys.take(name) for name in known if name in keys.left}}
    keys.close()
    if kind == 'DiceLoss':
        lines.append(f'{path}: ignored pixels have no effect; in MMSegmentation they have no class')
    if isinstance(translated.get('class_weight'), str):
        raise ValueError(f'{path}.class_weight={translated["class_weight"]!r}: give the weights as a list')
    return translated


def _add_sampler(losses: list[dict], sampler: dict, lines: list[str]) -> None:
    """Give the sampler to each cross-entropy."""
    path = 'model.decode_head.sampler'
    keys = Keys(sampler, path, lines)
    keys.expect('type', 'OHEMPixelSampler', default=None)
    thresh = keys.take('thresh', None)
    translated = dict(type='OHEMPixelSampler', thresh=thresh, min_kept=keys.take('min_kept', 100000))
    keys.close()
    kinds = [loss['type'] for loss in losses]
    sampled = [loss for loss in losses if loss['type'] == 'CrossEntropyLoss']
    if not sampled or not _SAMPLED.issuperset(kinds) or any(loss.get('use_sigmoid') for loss in sampled):
        raise ValueError(
            f'{path} cannot be translated with {", ".join(kinds)}: expected CrossEntropyLoss with '
            'use_sigmoid=False, and possibly LovaszLoss and TverskyLoss, which ignore it'
        )
    if thresh is None and len(losses) > 1:
        raise ValueError(f'{path}.thresh=None cannot be translated with several losses, whose sum it ranks')
    for loss in sampled:
        loss['sampler'] = translated
    lines.append(f'{path} -> model.loss.sampler')
