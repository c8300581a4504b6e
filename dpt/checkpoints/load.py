"""Load weights strictly; all are checked before the first is copied, so a failure changes nothing."""

import copy
import functools
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from .adapters import (
    ADAPTER,
    BASE_SHA256,
    base_sha256,
    check_scale,
    has_adapters,
    is_base,
    keep_adapters,
    ordinary_keys,
)
from .formats import (
    BACKBONE_FORMATS,
    DPT,
    HEADS_ALONE,
    MMSEG_DPT,
    MODEL_FORMATS,
    OWN_BACKBONES,
    OWN_MODELS,
    TIMM,
    TIMM_FORMATS,
    TIMM_MODELS,
    Format,
    Report,
    convert,
    convert_known,
    first,
    timm_hints,
    unused_biases,
)
from .meta import meta_of
from .read import read_checkpoint, unwrappings
from .timm_model import check_activation, fixed_periods

LOSSES = ('loss_decode', 'loss_auxiliary')
"""Prefixes of the keys of losses, which have counts but no weights."""


def load_backbone(module: nn.Module, path: str | Path, *, logger: logging.Logger | None = None) -> Report:
    """Load pretrained weights into a backbone, converting the keys of any supported format.

    A file with the keys of the module loads into any module; the other formats load into
    ``VisionTransformer``, or into a module whose ``checkpoint_keys`` are ``'timm'``, such as
    ``TimmBackbone``. If the file is a complete model, only its backbone is loaded. A final norm in the file,
    a classifier and layers after the last tap are dropped if the module has none. LoRA adapters of the module
    that the file lacks keep their values.

    Args:
        module: The backbone; unchanged if an exception is raised.
        path: Path or http(s) URL of any file that :func:`read_checkpoint` supports.
        logger: Logs one line about what was loaded; mmengine's current logger if None.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read, has an unknown format, contains NaN or infinite values, or
            does not match the module exactly. The message lists the keys and the settings that would match.
    """
    expected, content = ordinary_keys(module.state_dict()), read_checkpoint(path)
    if getattr(module, 'checkpoint_keys', None) == 'timm':
        unused = tuple(f'model.{key}' for key in cast(Any, module).unused_keys)
        own = (*OWN_BACKBONES, TIMM)  # some models of timm have the keys that Meta uses for others
        found, report = _converted(content, path, expected, own, TIMM_FORMATS, unused=unused)
        report = keep_adapters(report, expected, found)
        targets = {key for key in found if key not in expected and _under(key, unused)}
        found, report = _drop(found, report, targets, 'not used by the taps')
        found, report = _drop(
            found, report, fixed_periods(module, found, path), 'fixed values, those of the model'
        )
        found, report = _drop(found, report, unused_biases(found, expected), 'biases that are all zero')
        hints = functools.partial(timm_hints, cast(Any, module).model_name)
        check_activation(cast(Any, module), path)
        return _fill(module, path, found, report, hints, logger)
    found, report = _converted(content, path, expected, OWN_BACKBONES, BACKBONE_FORMATS)
    report = keep_adapters(report, expected, found)
    norm = {'ln1.weight', 'ln1.bias'}
    if not norm & expected.keys():
        found, report = _drop(found, report, norm, 'the model has no final norm')
    return _fill(module, path, found, report, functools.partial(_hints, ''), logger)


def load_model(
    module: nn.Module,
    path: str | Path,
    *,
    drop: tuple[str, ...] = (),
    content: Mapping[str, Any] | None = None,
    logger: logging.Logger | None = None,
) -> Report:
    """Load a checkpoint of this package or of another source of complete DPT models into a model.

    A file with the keys of the model, apart from ``drop``, loads into any model. Checkpoints of
    MMSegmentation 1.2.0 and later have no bias in the patch projection; if the model has one, it is set to
    zero, which gives the same results. :mod:`dpt.checkpoints.formats.published` lists the other sources. The
    depth heads of DINOv2 and DINOv3 come without an encoder: that of ``backbone.init_cfg`` is loaded first.

    Counts in losses, such as that of ``SiLogLoss(warm_up_iters=100)``, may be in the file or the model only.
    LoRA adapters of the model that the file lacks keep their values. A file of ``publish_model.py
    --adapters`` has no weights of the backbone: those of its ``init_cfg`` are loaded first.

    Args:
        module: The model; unchanged if an exception is raised.
        path: As for :func:`load_backbone`.
        drop: Prefixes of parameter names, such as ``'decode_head.conv_seg'``, that end at a dot. Parameters
            with these prefixes are not loaded and keep their values.
        content: Result of :func:`read_checkpoint`, if the file has already been read.
        logger: Logs one line about what was loaded; mmengine's current logger if None.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: As :func:`load_backbone`, or if a prefix in ``drop`` matches no key of the file or model.
    """
    if isinstance(drop, str):
        raise ValueError(f'drop={drop!r} must be a tuple of key prefixes, such as ({drop!r},)')
    expected = ordinary_keys(module.state_dict())
    timm = getattr(getattr(module, 'backbone', None), 'checkpoint_keys', None) == 'timm'
    formats = (MMSEG_DPT, DPT, *TIMM_MODELS) if timm else MODEL_FORMATS
    content = read_checkpoint(path) if content is None else content
    found, report = _converted(content, path, expected, OWN_MODELS, formats, drop)
    for prefix in drop:
        if not any(_under(key, (prefix,)) for key in (*expected, *found)):
            raise ValueError(f'{path}: drop={prefix!r} matches no key in the file or the model')
    found, report = _drop(found, report, {key for key in found if _under(key, drop)}, 'on request')
    unknown = {key for key in found if _under(key, LOSSES) and key not in expected}
    found, report = _drop(found, report, unknown, 'a count of a loss that the model does not have')
    absent = {key for key in expected if _under(key, LOSSES) and key not in found}
    report = replace(report, kept=tuple(key for key in expected if _under(key, drop) or key in absent))
    report = keep_adapters(report, expected, found)
    hints = functools.partial(_hints, 'backbone.')
    if has_adapters(found) and not any(map(is_base, found)):
        report = replace(report, kept=(*report.kept, *filter(is_base, expected)))
        _check_fit(module, path, found, report, hints)
        _load_base(module, path, meta_of(content, path).get(BASE_SHA256), logger)
    elif report.source in HEADS_ALONE and not _under('backbone', drop):
        report = replace(report, kept=(*report.kept, *filter(is_base, expected)))
        _check_fit(module, path, found, report, hints)
        _load_encoder(module, path, logger)
    return _fill(module, path, found, report, hints, logger)


def _load_encoder(module: nn.Module, path: str | Path, logger: logging.Logger | None) -> None:
    """Load the weights of the backbone, which a file with a head alone lacks, from its ``init_cfg``.

    Raises:
        ValueError: If the config does not name them.
    """
    backbone = cast(Any, module).backbone
    init = getattr(backbone, 'init_cfg', None) or {}
    if init.get('type') != 'Pretrained':
        raise ValueError(
            f'{path} has a neck and a head without an encoder: set model.backbone.init_cfg='
            "dict(type='Pretrained', checkpoint=PATH) to the encoder it was trained on; nothing was loaded"
        )
    load_backbone(backbone, init['checkpoint'], logger=logger)


def _load_base(
    module: nn.Module, path: str | Path, wanted: str | None, logger: logging.Logger | None
) -> None:
    """Load the weights of the backbone on which the adapters of a file were trained, unless they are there.

    Raises:
        ValueError: If the config does not name them, or names others.
    """
    backbone = cast(Any, module).backbone
    init = getattr(backbone, 'init_cfg', None) or {}
    if base_sha256(module.state_dict()) == wanted:
        return
    loaded = copy.deepcopy(backbone)  # so that the module stays unchanged if these are other weights
    if init.get('type') == 'Pretrained':
        load_backbone(loaded, init['checkpoint'], logger=logger)
    state = loaded.state_dict()
    if base_sha256({f'backbone.{key}': tensor for key, tensor in state.items()}) != wanted:
        raise ValueError(
            f'{path} has LoRA adapters without the weights they were trained on: give a config whose '
            f'model.backbone.init_cfg names these weights (found: {init.get("checkpoint", "none")})'
        )
    backbone.load_state_dict(state)


def _under(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(prefix.rstrip('.') + '.') for prefix in prefixes)


def _drop(
    found: Mapping[str, Tensor], report: Report, targets: set[str], reason: str
) -> tuple[dict[str, Tensor], Report]:
    """Remove ``targets`` from ``found`` and move their source keys from ``mapped`` to ``dropped``."""
    mapped = {source: target for source, target in report.mapped.items() if target not in targets}
    dropped = {source: reason for source in report.mapped if source not in mapped}
    remaining = {key: tensor for key, tensor in found.items() if key not in targets}
    return remaining, replace(report, mapped=mapped, dropped={**report.dropped, **dropped})


def _converted(
    content: Mapping[str, Any],
    path: str | Path,
    expected: Mapping[str, Tensor],
    own: tuple[Format, ...],
    formats: tuple[Format, ...],
    drop: tuple[str, ...] = (),
    unused: tuple[str, ...] = (),
) -> tuple[dict[str, Tensor], Report]:
    """Return the tensors in the content of a file with the keys of the module, and the report.

    The keys of the module (``own``) are tried first, before and after removing each wrapper; keys
    with the prefixes ``unused`` may be in the file only. The other ``formats`` are tried only if these do not
    match, with all wrappers removed.
    """
    wanted = {key: tensor for key, tensor in expected.items() if not _under(key, drop)}
    complete = [{key for key in wanted if not _under(key, LOSSES)}]
    if has_adapters(wanted):
        complete.append({key for key in complete[0] if ADAPTER not in key})
        complete.append({key for key in complete[0] if not is_base(key)})
    nearest: dict[str, Tensor] = {}
    for state_dict, taken in unwrappings(content, path):
        state_dict = ordinary_keys(state_dict)
        if has_adapters(state_dict) and not has_adapters(expected):
            raise ValueError(
                f'{path} has LoRA adapters, the model has none: set model.backbone.lora as in its training, '
                'or merge the adapters into the weights with tools/publish_model.py'
            )
        for one in own:
            converted, report = convert(state_dict, one)
            present = {key: tensor for key, tensor in converted.items() if not _under(key, drop)}
            needed = {key for key in present if key in wanted or not _under(key, unused)}
            needed -= {key for key in needed if _under(key, LOSSES)}
            if not report.unmapped and needed in complete:
                return converted, replace(report, unwrapped=taken)
            present.update({key: state_dict[key] for key in report.unmapped})
            nearest = max(nearest, present, key=lambda tensors: len(wanted.keys() & tensors.keys()))
    try:
        converted, report = convert_known(state_dict, formats)
    except ValueError as error:
        text = f'{path}: {error}'
        if wanted.keys() & nearest.keys() and not any(one.fits(state_dict) for one in formats):
            text += f"\nCompared with the model's own keys:\n{_listed(wanted, nearest)}"
        raise ValueError(text) from None
    return converted, replace(report, unwrapped=taken)


def _fill(
    module: nn.Module,
    path: str | Path,
    found: Mapping[str, Tensor],
    report: Report,
    hints: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], list[str]],
    logger: logging.Logger | None,
) -> Report:
    """Check the tensors of ``found`` against the module, then copy them and log one line."""
    tensors, filled = _check_fit(module, path, found, report, hints)
    own_names = zip(ordinary_keys(module.state_dict()), module.state_dict(), strict=True)  # with adapters
    module.load_state_dict({name: tensors[key] for key, name in own_names}, strict=True)
    notes = [f'{report.source} keys']
    if report.unwrapped:
        notes.append(f'unwrapped: {", ".join(report.unwrapped)}')
    if filled:
        notes.append('patch bias missing: set to zero')
    if report.dropped:
        reasons = list(report.dropped.values())
        counts = {reason: reasons.count(reason) for reason in reasons}
        counted = [f'{n} key{"s" if n > 1 else ""} ({reason})' for reason, n in counts.items()]
        notes.append(f'dropped: {", ".join(report.dropped if len(reasons) <= 6 else counted)}')
    if report.kept:
        notes.append(f"kept the model's own: {first(report.kept, 6)}")
    line = f'loaded {len(found)}/{len(tensors)} tensors from {path} ({"; ".join(notes)})'
    print_log(line, logger or 'current')
    return report


def _check_fit(
    module: nn.Module,
    path: str | Path,
    found: Mapping[str, Tensor],
    report: Report,
    hints: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], list[str]],
) -> tuple[dict[str, Tensor], bool]:
    """Check the tensors of ``found`` against the module without changing it.

    Returns:
        All tensors of the module after loading, and whether a missing patch bias is set to zero.

    Raises:
        ValueError: If they do not fit.
    """
    expected = ordinary_keys(module.state_dict())
    kept = {key: expected[key] for key in report.kept}
    filled: dict[str, Tensor] = {}
    if MMSEG_DPT.fits({**report.mapped, **report.dropped}):
        for bias in ('patch_embed.projection.bias', 'backbone.patch_embed.projection.bias'):
            if bias in expected and bias not in {**found, **kept}:
                filled = {bias: torch.zeros_like(expected[bias])}
    wanted = {key: tensor for key, tensor in expected.items() if key not in {**kept, **filled}}
    if text := _listed(wanted, found):
        lines = [text, *(f'-> {hint}' for hint in hints(wanted, found))]
        raise ValueError(
            f'{path} ({report.source} keys) does not fit the model; nothing was loaded.\n' + '\n'.join(lines)
        )
    check_scale(path, expected, found)
    _check_finite(path, expected, found)
    return {**found, **filled, **kept}, bool(filled)


def _check_finite(path: str | Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError for NaN or infinite weights, except constants that the model itself contains."""
    for key, tensor in found.items():
        # torch.isfinite does not support float8
        finite = torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor)
        if finite.all() or torch.equal(tensor, expected[key].to(tensor)):
            continue
        kind = 'NaN' if tensor.isnan().any() else 'infinite values'
        count = int((~finite).sum())
        raise ValueError(
            f'{path}: {key} contains {kind} ({count} of {tensor.numel()} values are not finite); '
            'nothing was loaded. The training diverged; use an earlier checkpoint'
        )


def _mismatched(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return the keys whose tensors differ in shape, or of which only one is floating point."""
    return [
        key
        for key, one in expected.items()
        if key in found
        and (one.shape != found[key].shape or one.is_floating_point() != found[key].is_floating_point())
    ]


def _listed(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Return the keys that differ as text, one line for each kind of difference; ``''`` if all fit."""

    def kind(tensor: Tensor) -> str:
        return f'{"x".join(map(str, tensor.shape)) or "scalar"} {str(tensor.dtype).removeprefix("torch.")}'

    sections = {
        'missing in the file': [key for key in expected if key not in found],
        'not in the model': [key for key in found if key not in expected],
        'with another shape': [
            f'{key}: {kind(found[key])} in the file, {kind(expected[key])} in the model'
            for key in _mismatched(expected, found)
        ],
    }
    return '\n'.join(f'{len(keys)} {title}: {first(keys)}' for title, keys in sections.items() if keys)


# Backbone key: (setting if the file lacks it, setting if the model lacks it)
_SWITCHES = {
    r'patch_embed\.projection\.bias': ('patch_bias=False', 'patch_bias=True'),
    r'layers\.\d+\.attn\.attn\.in_proj_bias': ('qkv_bias=False', 'qkv_bias=True'),
    r'layers\.\d+\.ls[12]\.gamma': ('layer_scale_init=None', 'layer_scale_init=1e-5'),
    r'ln1\.(weight|bias)': ('final_norm=False', 'final_norm=True'),
}


def _hints(prefix: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return known remedies for the differences; ``prefix`` is that of the backbone keys."""
    mismatched = _mismatched(expected, found)
    settings, hints = [], []
    projection, position = f'{prefix}patch_embed.projection.weight', f'{prefix}pos_embed'
    patch = found[projection].shape[-1] if projection in found and found[projection].ndim == 4 else 0
    if projection in mismatched and patch:
        for name, axis in (('patch_size', -1), ('embed_dims', 0), ('in_channels', 1)):
            if expected[projection].shape[axis] != found[projection].shape[axis]:
                settings.append(f'{name}={found[projection].shape[axis]}')
    if position in mismatched and found[position].ndim == 3:
        count = found[position].shape[1]
        grid = math.isqrt(count - 1) if count else 0
        if not grid or grid * grid != count - 1:
            hints.append(f'{position} has {count} positions, not one for the class token and a square grid')
        elif patch and count != expected[position].shape[1]:
            settings.append(f'img_size={grid * patch}')
    norm = re.compile(re.escape(prefix) + r'layers\.\d+\.ln1\.weight')
    layers, in_file = (sum(map(bool, map(norm.fullmatch, tensors))) for tensors in (expected, found))
    if in_file not in (0, layers):
        settings.append(f'num_layers={in_file}')
    else:
        for pattern, (if_missing, if_unexpected) in _SWITCHES.items():
            full = re.compile(re.escape(prefix) + pattern)
            if any(full.fullmatch(key) for key in expected.keys() - found.keys()):
                settings.append(if_missing)
            if any(full.fullmatch(key) for key in found.keys() - expected.keys()):
                settings.append(if_unexpected)
    classifier = 'decode_head.conv_seg.weight'
    if classifier in mismatched and len(found[classifier]) != len(expected[classifier]):
        hints.append(
            f'the file has {len(found[classifier])} classes, the model has {len(expected[classifier])}; '
            "to skip the classifier of the file, pass drop=('decode_head.conv_seg',), or set "
            "model.init_cfg=dict(type='Pretrained', checkpoint=PATH, drop=['decode_head.conv_seg']) "
            'in the config'
        )
    return [f'the file requires model.backbone.{setting} in the config' for setting in settings] + hints
