"""Recognise published depth and segmentation models, and build the config of the model.

The keys and shapes of a file tell its source and its sizes. What they do not tell, such as the range of a
metric depth model, is read from the ``config.json`` of transformers in the same folder, or from the name of
the file; else it must be given as the variant.
"""

import copy
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .formats import convert, first, recognise
from .formats import published as sources
from .published_hf import resize_to, transformers_settings
from .published_sizes import count_layers, model_config
from .read import local_file, read_state_dict

VARIANTS: dict[str, dict[str, str]] = {
    sources.ISL_DEPTH.name: {
        'midas': r'dpt_(large|hybrid)[-_](midas|384)',
        'nyu': r'dpt_hybrid_nyu',
        'kitti': r'dpt_hybrid_kitti',
    },
    sources.DEPTH_ANYTHING.name: {
        'v1': r'depth_anything_vit[sbl]14(?![\w-])',
        'v2': r'depth_anything_v2_vit[sblg](?![\w-])',
        'v2-indoor': r'depth_anything_v2_metric_hypersim_vit[sblg](?![\w-])',
        'v2-outdoor': r'depth_anything_v2_metric_vkitti_vit[sblg](?![\w-])',
    },
}
"""Variants of the sources whose files have the same keys, with a pattern of the names of published files.

Longer names, such as ``depth_anything_v2_vits_fine_tuned.pth``, may be of another variant and do not match.
"""

_IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
_HALF = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
# Size (width, height), scale and shift, in run_monodepth.py of isl-org/DPT.
_METRIC = {'nyu': ((640, 480), 0.000305, 0.1378), 'kitti': ((1216, 352), 0.00006016, 0.00579)}
_DINO_TAPS = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}  # by number of layers
_ISL = (sources.ISL_DEPTH.name, sources.ISL_SEGMENTATION.name)
_ISL_TAPS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23)}
# The encoders of files with a head alone, in timm, by number of channels.
_DINOV2 = {384: 'small', 768: 'base', 1024: 'large', 1536: 'giant'}
_DINOV3 = {384: 'vit_small', 768: 'vit_base', 1024: 'vit_large', 4096: 'vit_7b'}


@dataclass(frozen=True)
class Published:
    """A recognised file.

    Args:
        source: Name of its format.
        variant: What the keys do not tell, see :data:`VARIANTS`; ``''`` if there is only one.
        model: ``model`` of a config file that fits the file. Values of the training are not in the file; they
            are the defaults.
        pipeline: Test pipeline, which resizes images as the original does.
        classes: Class names of a segmentation model of transformers.
    """

    source: str
    variant: str
    model: dict[str, Any]
    pipeline: tuple[dict[str, Any], ...]
    classes: tuple[str, ...] = ()

    def config(self) -> dict[str, Any]:
        """Return what inference needs of a config file."""
        depth = self.model['type'] == 'DepthEstimator'
        dataset: dict[str, Any] = dict(type='BaseDepthDataset' if depth else 'BaseSegDataset')
        dataset['pipeline'] = [dict(step) for step in self.pipeline]
        if not depth:
            count = self.model['decode_head']['num_classes']
            names = self.classes or tuple(f'class {i}' for i in range(count))
            dataset['metainfo'] = dict(classes=names)
        return dict(
            default_scope='dpt', model=copy.deepcopy(self.model), test_dataloader=dict(dataset=dataset)
        )


def is_published(keys: Collection[str]) -> bool:
    """Return whether the keys of a state dict are those of a published model."""
    return any(one.fits(keys) for one in sources.PUBLISHED_MODELS)


def recognise_published(path: str | Path, variant: str | None = None) -> Published:
    """Recognise a published model from its keys, and build the config of a model that fits it.

    Args:
        path: As for :func:`dpt.checkpoints.load_model`.
        variant: What the keys do not tell, see :data:`VARIANTS`. ``None`` reads it from the name of the file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it cannot be read or is no published model; if several models of its source have these
            keys and the name of the file does not tell which it is; or if dpt does not support the model.
    """
    return published_of(read_state_dict(path), path, variant)


def published_of(tensors: Mapping[str, Tensor], path: str | Path, variant: str | None = None) -> Published:
    """Recognise a published model from its tensors, as :func:`recognise_published` does.

    Raises:
        ValueError: As :func:`recognise_published`.
    """
    try:
        one = recognise(tensors, sources.PUBLISHED_MODELS)
        converted, report = convert(tensors, one)
        if report.unmapped:
            raise ValueError(f'not in the table of {one.name} keys: {first(report.unmapped)}')
        variant = _variant(one.name, Path(str(path)).name, variant)
        settings = _settings(one.name, variant, converted, path)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    resize = settings.get('resize')
    steps = (dict(type='LoadImageFromFile'), *([resize] if resize else []), dict(type='PackSegInputs'))
    return Published(
        one.name, variant, model_config(converted, settings), steps, tuple(settings.get('classes', ()))
    )


def _variant(source: str, name: str, variant: str | None) -> str:
    """Return the variant that was asked for, or else that of the file's name."""
    known = VARIANTS.get(source, {})
    if variant is None and known:
        found = [one for one, pattern in known.items() if re.search(pattern, name)]
        if len(found) == 1:
            return found[0]
        raise ValueError(
            f'{source}: the keys fit several models, and the name of the file does not tell which: rename it '
            'as it was published, pass its config, such as --config configs/depth_anything_v2_s_indoor.py, '
            f'or call dpt.load(..., variant=...) with one of {", ".join(known)}'
        )
    if (variant or '') not in (known or {'': ''}):
        raise ValueError(f'variant={variant!r} of {source} must be one of {", ".join(known) or None}')
    return variant or ''


def _settings(source: str, variant: str, tensors: Mapping[str, Tensor], path: str | Path) -> dict[str, Any]:
    """Return what the shapes do not tell: the settings of each part of the model, and the resizing."""
    if source.startswith('Hugging Face'):
        return transformers_settings(source, local_file(path).parent)
    if source in (sources.DINOV2_HEAD.name, sources.DINOV3_HEAD.name):
        return _head_settings(source, tensors)
    layers = count_layers(tensors, 'backbone.layers.')
    width = tensors['backbone.cls_token'].shape[-1]
    known = _ISL_TAPS if source in _ISL else _DINO_TAPS
    if layers not in known or width % 64:
        raise ValueError(
            f'no published {source} has {layers} layers of {width} channels: pass a config of the model'
        )
    backbone: dict[str, Any] = dict(num_heads=width // 64)
    if source in _ISL:
        hybrid = 'backbone.stem.conv.weight' in tensors
        backbone |= dict(out_indices=(8, 11) if hybrid else _ISL_TAPS[layers], interpolate_mode='bilinear')
        head: dict[str, Any] = dict(channel_dropout=False, upsample_factor=2)
        size: int | tuple[int, int] = 480
        if source == sources.ISL_DEPTH.name:
            size, head = 384, dict(output='relu', relative=True)
        if variant in _METRIC:
            size, scale, shift = _METRIC[variant]
            head = dict(output='reciprocal', relative=False, scale=scale, shift=shift)
        return dict(
            preprocessor=dict(**_HALF, size_divisor=32),
            backbone=backbone,
            decode_head=head,
            model=dict(resize_mode='bicubic', align_corners=False),
            resize=resize_to(size, 'minimal', 32),
        )
    taps = tuple(range(layers - 4, layers)) if variant == 'v1' else _DINO_TAPS[layers]
    backbone |= dict(out_indices=taps, norm_taps=True, output_cls_token=False, interpolate_offset=0.1)
    head = dict(upsample_factor=1.75)
    if source == sources.UNIMATCH_V2.name:
        head |= dict(dropout_ratio=0.0)
    elif variant in ('v2-indoor', 'v2-outdoor'):
        largest = 20.0 if variant == 'v2-indoor' else 80.0
        head |= dict(output='sigmoid', max_depth=largest, relative=False)
    else:
        head |= dict(output='relu', relative=True)
    return dict(
        preprocessor=dict(**_IMAGENET, size_divisor=14),
        backbone=backbone,
        neck=dict(odd_grids='lateral'),
        decode_head=head,
        model=dict(align_corners=False) if variant == 'v1' else {},
        resize=None if source == sources.UNIMATCH_V2.name else resize_to(518, 'lower_bound', 14),
    )


def _head_settings(source: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings of a neck and head of DINOv2 or DINOv3, which come without the encoder."""
    width = tensors['neck.reassemble_blocks.projects.0.conv.weight'].shape[1]
    dinov2 = source == sources.DINOV2_HEAD.name
    sizes = _DINOV2 if dinov2 else _DINOV3
    if width not in sizes:
        raise ValueError(f'no encoder of {source} has {width} channels; known: {sizes}')
    if not dinov2 and 'decode_head.project.conv.weight' not in tensors:
        raise ValueError('the CHMv2 head of DINOv3 is not supported: its bins are spaced in another way')
    layers = 40 if width in (1536, 4096) else 24 if width == 1024 else 12
    name = f'vit_{sizes[width]}_patch14_dinov2' if dinov2 else f'{sizes[width]}_patch16_dinov3'
    tag = 'lvd142m' if dinov2 else 'lvd1689m'
    backbone = dict(
        type='TimmBackbone',
        model_name=name,
        out_indices=_DINO_TAPS[layers],
        norm_taps=not dinov2,
        init_cfg=dict(type='Pretrained', checkpoint=f'timm://{name}.{tag}'),
    )
    head: dict[str, Any] = dict(output='relu', min_depth=1e-3)
    if not dinov2:
        head = dict(output='linear_bins', min_depth=1e-3, max_depth=100.0)
    return dict(
        preprocessor=dict(**_IMAGENET, size_divisor=14 if dinov2 else 16),
        backbone=backbone,
        decode_head=head,
        model=dict(align_corners=False),
    )
