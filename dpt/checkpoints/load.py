"""Strict loading: everything is checked before the first tensor is copied, so nothing is half loaded."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from .compare import compare, explain, list_differences
from .convert import Report, convert, convert_known
from .read import checkpoint_hash, read_checkpoint, read_state_dict, unwrappings
from .rules import BACKBONE_FORMATS, MMSEG_DPT, MODEL_FORMATS, OWN_BACKBONES, OWN_MODELS, Format

__all__ = ['checkpoint_hash', 'load_backbone', 'load_model', 'read_checkpoint', 'read_state_dict']

_FINAL_NORM = ('ln1.weight', 'ln1.bias')
_NO_FINAL_NORM = 'the model has no final norm'
_PATCH_BIAS = 'patch_embed.projection.bias'


def load_backbone(module: nn.Module, path: str | Path, *, logger: logging.Logger | None = None) -> Report:
    """Fill a backbone with pretrained weights, in its own keys or those of any source that is known.

    A file whose keys are the module's own loads into any module. Other sources are vision transformers, for
    a ``VisionTransformer``. A whole trained model will do as well: its backbone is taken. A final norm in the
    file is knowingly left out where the module has none.

    Args:
        module: the backbone; unchanged if anything is raised.
        path: a path or http(s) address of any file that :func:`read_checkpoint` reads.
        logger: where the one line about what was loaded goes; mmengine's current logger if None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is unreadable, of no known source, holds NaN or infinite values, or does not fit
            the module exactly; the message lists the keys and the settings that would make it fit.
    """
    expected = module.state_dict()
    found, report, is_mmseg = _read_converted(path, expected, OWN_BACKBONES, BACKBONE_FORMATS)
    if not any(key in expected for key in _FINAL_NORM):
        sources = [source for source, target in report.mapped.items() if target in _FINAL_NORM]
        report = _drop(report, dict.fromkeys(sources, _NO_FINAL_NORM))
        found = {key: found[key] for key in report.mapped.values()}
    filled = _zero_patch_bias(found, expected, _PATCH_BIAS) if is_mmseg else {}
    return _fill(module, path, expected, found, report, filled, prefix='', logger=logger)


def load_model(
    module: nn.Module, path: str | Path, *, drop: tuple[str, ...] = (), logger: logging.Logger | None = None
) -> Report:
    """Fill a whole model from a checkpoint of this package or of MMSegmentation's DPT.

    A file whose keys are the model's own, apart from ``drop``, loads whatever parts the model is made of.
    MMSegmentation 1.2.0 and later have no bias in the patch projection; a model that has one gets zeros
    there, with which it computes the same.

    Args:
        module: the model; unchanged if anything is raised.
        path: as for :func:`load_backbone`.
        drop: leading parts of the model's names, such as ``'decode_head.conv_seg'``, up to a dot. Tensors of
            the file under them are not loaded, and the model keeps its own.
        logger: where the one line about what was loaded goes; mmengine's current logger if None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as :func:`load_backbone`, and where an entry of ``drop`` is in neither file nor model.
    """
    if isinstance(drop, str):
        raise ValueError(f'drop={drop!r} must be a tuple of key prefixes, such as ({drop!r},)')
    expected = module.state_dict()
    found, report, is_mmseg = _read_converted(path, expected, OWN_MODELS, MODEL_FORMATS, drop)
    for prefix in drop:
        if not any(_under(key, (prefix,)) for key in (*expected, *found)):
            raise ValueError(f'{path}: drop={prefix!r} is the beginning of no key in the file or the model')
    dropped = {source: 'on request' for source, target in report.mapped.items() if _under(target, drop)}
    report = replace(_drop(report, dropped), kept=tuple(key for key in expected if _under(key, drop)))
    found = {key: found[key] for key in report.mapped.values()}
    wanted = {key: tensor for key, tensor in expected.items() if key not in report.kept}
    filled = _zero_patch_bias(found, wanted, f'backbone.{_PATCH_BIAS}') if is_mmseg else {}
    return _fill(module, path, expected, found, report, filled, prefix='backbone.', logger=logger)


def _under(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(prefix.rstrip('.') + '.') for prefix in prefixes)


def _drop(report: Report, reasons: Mapping[str, str]) -> Report:
    """Move source keys from the mapped to the dropped."""
    mapped = {source: target for source, target in report.mapped.items() if source not in reasons}
    return replace(report, mapped=mapped, dropped={**report.dropped, **reasons})


def _zero_patch_bias(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], key: str
) -> dict[str, Tensor]:
    """The zeros that stand for the patch bias which MMSegmentation dropped, where the model has one."""
    return {key: torch.zeros_like(expected[key])} if key in expected and key not in found else {}


def _read_converted(
    path: str | Path,
    expected: Mapping[str, Tensor],
    own: tuple[Format, ...],
    formats: tuple[Format, ...],
    drop: tuple[str, ...] = (),
) -> tuple[dict[str, Tensor], Report, bool]:
    """Our tensors, what became of the file's, and whether it is a whole DPT of MMSegmentation.

    The module's own names come first (``own``), inside as many wrappers as they fit in: only a file in other
    names is a matter of ``formats``, without any wrapper.
    """
    wanted = {key: tensor for key, tensor in expected.items() if not _under(key, drop)}
    named = []
    for state_dict, taken in unwrappings(path):
        for one in own:
            converted, report = convert(state_dict, one.rules)
            if not report.unmapped and {key for key in converted if not _under(key, drop)} == wanted.keys():
                return converted, replace(report, source=one.name, unwrapped=taken), False
            named.append(converted)
    try:
        converted, report = convert_known(state_dict, formats)
        return converted, replace(report, unwrapped=taken), MMSEG_DPT.fits(state_dict)
    except ValueError as error:
        text = f'{path}: {error}'
    nearest = max(named, key=lambda tensors: len(wanted.keys() & tensors.keys()))
    if wanted.keys() & nearest.keys() and not any(one.fits(state_dict) for one in formats):
        present = {key: tensor for key, tensor in nearest.items() if not _under(key, drop)}
        listed = list_differences(compare(wanted, present), wanted, present)
        text += f"\nAgainst the model's own names:\n{listed}"
    raise ValueError(text)


def _fill(
    module: nn.Module,
    path: str | Path,
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    report: Report,
    filled: Mapping[str, Tensor],
    *,
    prefix: str,
    logger: logging.Logger | None,
) -> Report:
    settled = {*report.kept, *filled}
    wanted = {key: tensor for key, tensor in expected.items() if key not in settled}
    differences = compare(wanted, found)
    if differences:
        text = explain(differences, wanted, found, prefix)
        raise ValueError(f'{path} ({report.source} keys) does not fit the model; nothing was loaded.\n{text}')
    _check_finite(path, expected, found)
    kept = {key: expected[key] for key in report.kept}
    module.load_state_dict({**found, **filled, **kept}, strict=True)
    notes = [f'{report.source} keys']
    if report.unwrapped:
        notes.append(f'unwrapped: {", ".join(report.unwrapped)}')
    if filled:
        notes.append('patch bias absent: zeros')
    if report.dropped:
        notes.append(f'dropped: {_brief(report.dropped)}')
    if report.kept:
        notes.append(f"kept the model's own: {', '.join(report.kept)}")
    line = f'loaded {len(found)}/{len(expected)} tensors from {path} ({"; ".join(notes)})'
    print_log(line, logger or 'current')
    return report


def _check_finite(path: str | Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse weights with NaN or infinite values, except constants that the model itself holds.

    Raises:
        ValueError: naming the first such tensor.
    """
    for key, tensor in found.items():
        # torch.isfinite knows no float8
        finite = torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor)
        if finite.all() or torch.equal(tensor, expected[key].to(tensor)):
            continue
        kind = 'NaN' if tensor.isnan().any() else 'infinite values'
        count = int((~finite).sum())
        raise ValueError(
            f'{path}: {key} holds {kind} ({count} of {tensor.numel()} numbers are not finite); '
            'nothing was loaded. The training that wrote it diverged: take an earlier checkpoint'
        )


def _brief(dropped: Mapping[str, str], limit: int = 6) -> str:
    """The dropped keys by name while they are few, else counted by reason."""
    if len(dropped) <= limit:
        return ', '.join(dropped)
    reasons = list(dropped.values())
    return ', '.join(f'{reasons.count(reason)} keys ({reason})' for reason in dict.fromkeys(reasons))
