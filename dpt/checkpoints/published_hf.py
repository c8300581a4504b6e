"""Settings of DPT and Depth Anything models of transformers, from the files beside their weights."""

import json
from pathlib import Path
from typing import Any

from .formats import published as sources

CONFIG, PREPROCESSOR = 'config.json', 'preprocessor_config.json'
FACTORS = [4, 2, 1, 0.5]


def resize_to(size: int | tuple[int, int], method: str, divisor: int) -> dict[str, Any]:
    """Return the transform that resizes to about this size, one side or (width, height)."""
    return dict(
        type='ResizeToBound', scale=size, method=method, size_divisor=divisor, interpolation='bicubic'
    )


def transformers_settings(source: str, folder: Path) -> dict[str, Any]:
    """Return the settings that the shapes of the weights do not tell, by part of the model.

    Args:
        source: Name of the format of the weights.
        folder: Folder of the weights, ``config.json`` and, if there is one, ``preprocessor_config.json``.

    Raises:
        ValueError: If ``config.json`` cannot be read or has a value that dpt does not support.
    """
    config = _read(folder / CONFIG)
    skipped = 2 if config.get('is_hybrid') else 0  # levels that the stem provides
    if config.get('reassemble_factors', FACTORS)[skipped:] != FACTORS[skipped:]:
        raise ValueError(f'{CONFIG}: reassemble_factors must be {FACTORS}')
    encoder = config.get('backbone_config') or {}
    if source in (sources.HF_DINOV2_DEPTH.name, sources.HF_DEPTH_ANYTHING.name):
        backbone = _dinov2(encoder, normed=source == sources.HF_DEPTH_ANYTHING.name)
        patch = encoder.get('patch_size', 14)
    else:
        backbone, patch = _vit(config), config.get('patch_size', 16)
    values = _read(folder / PREPROCESSOR) if (folder / PREPROCESSOR).exists() else {}
    side = 384 if patch == 16 else 518
    settings: dict[str, Any] = dict(
        preprocessor=_preprocessor(values, patch), backbone=backbone, resize=_resize(values, side)
    )
    index = 3 - config.get('head_in_index', -1) % 4
    head: dict[str, Any] = dict(in_index=index) if index else {}
    if source == sources.HF_DEPTH_ANYTHING.name:
        head['upsample_factor'] = config.get('patch_size', 14) / 8
        settings['neck'] = dict(odd_grids='lateral')
        if config.get('depth_estimation_type') == 'metric':
            head |= dict(output='sigmoid', max_depth=float(config['max_depth']))
        else:
            head |= dict(output='relu', relative=True)
    elif source == sources.HF_SEGMENTATION.name:
        head = dict(channel_dropout=False, upsample_factor=2)
        names = config.get('id2label') or {}
        settings['classes'] = tuple(names[key] for key in sorted(names, key=int))
    else:
        usual = 'relative' if source == sources.HF_DEPTH.name else 'metric'
        head |= dict(output='relu', relative=config.get('depth_estimation_type', usual) == 'relative')
    if config.get('readout_type', 'project') == 'add':
        settings['neck'] = dict(readout_type='add')
    settings['decode_head'] = head
    return settings


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f'cannot read {file}, which transformers writes beside its weights: {error}'
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f'{file} is not a JSON object')
    return content


def _vit(config: dict[str, Any]) -> dict[str, Any]:
    if config.get('hidden_act', 'gelu') != 'gelu':
        raise ValueError(f'{CONFIG}: hidden_act={config["hidden_act"]!r} is not supported, only gelu')
    hybrid = config.get('is_hybrid', False)
    taps = config.get('backbone_out_indices') or (2, 5, 8, 11)
    backbone = dict(
        num_heads=config.get('num_attention_heads', 12),
        out_indices=tuple(taps[2:] if hybrid else taps),
        norm_eps=config.get('layer_norm_eps', 1e-12),
        interpolate_mode='bilinear',
    )
    return backbone | (dict(weight_eps=1e-8, eps_in_variance=True) if hybrid else {})


def _dinov2(config: dict[str, Any], *, normed: bool) -> dict[str, Any]:
    if config.get('model_type') != 'dinov2' or config.get('use_swiglu_ffn'):
        raise ValueError(f'{CONFIG}: only DINOv2 encoders without SwiGLU layers are supported')
    if config.get('apply_layernorm', True) != normed:
        raise ValueError(f'{CONFIG}: backbone_config.apply_layernorm must be {normed}')
    stages = config.get('out_features') or [f'stage{i}' for i in config.get('out_indices') or []]
    return dict(
        num_heads=config.get('num_attention_heads', 12),
        out_indices=tuple(int(stage.removeprefix('stage')) - 1 for stage in stages),
        norm_eps=config.get('layer_norm_eps', 1e-6),
        norm_taps=normed,
        output_cls_token=not normed,
    )


def _resize(values: dict[str, Any], side: int) -> dict[str, Any] | None:
    """Return the transform of the images."""
    if not values.get('do_resize', True):
        return None
    size = values.get('size') or {}
    size = dict(height=size, width=size) if isinstance(size, int) else size
    scale = (size.get('width', side), size.get('height', side))
    mode = 'bilinear' if values.get('resample') == 2 else 'bicubic'
    if values.get('keep_aspect_ratio'):
        resize = resize_to(scale, 'minimal', values.get('ensure_multiple_of', 1))
        return {**resize, 'interpolation': mode}
    return dict(type='Resize', scale=scale, interpolation=mode)


def _preprocessor(values: dict[str, Any], patch: int) -> dict[str, Any]:
    """Return mean and std of the pixels (0 to 255), and the divisor of the sides of images."""
    usual = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    if patch == 14:  # DINOv2
        usual = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    mean, std = (values.get(name, usual[name]) for name in usual)
    scale = 1 / values.get('rescale_factor', 1 / 255)
    return dict(
        mean=[round(x * scale, 3) for x in mean],
        std=[round(x * scale, 3) for x in std],
        size_divisor=32 if patch == 16 else patch,
    )
