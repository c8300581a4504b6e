"""Sizes of a model, from the shapes of its weights."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def count_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Return the highest number after ``prefix`` plus one."""
    numbers = [int(key.removeprefix(prefix).split('.')[0]) for key in tensors if key.startswith(prefix)]
    return max(numbers, default=-1) + 1


def model_config(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a model.

    Args:
        tensors: The weights, with the keys of a model of dpt.
        settings: What their shapes do not tell, by part of the model.
    """
    depth = 'decode_head.conv_depth.weight' in tensors
    preprocessor = dict(settings['preprocessor'])
    divisor = preprocessor.pop('size_divisor')
    backbone = dict(settings['backbone'])
    if 'backbone.pos_embed' in tensors:
        backbone = {**_vit(tensors), **backbone}
    model: dict[str, Any] = dict(
        type='DepthEstimator' if depth else 'EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor',
            **preprocessor,
            bgr_to_rgb=True,
            test_cfg=dict(size_divisor=divisor),
        ),
        backbone=backbone,
        neck={**_neck(tensors), **settings.get('neck', {})},
        decode_head={**_head(tensors, depth), **settings['decode_head']},
        **(settings.get('model', {}) if depth else {}),
    )
    if model['decode_head'].get('relative'):
        model['loss'] = dict(type='ScaleShiftInvariantLoss')  # the default compares depth in a unit
    if 'auxiliary_heads.0.conv_seg.weight' in tensors:
        model['auxiliary_heads'] = [
            dict(
                type='FCNHead',
                in_channels=len(tensors['auxiliary_heads.0.project.conv.weight']),
                num_classes=len(tensors['auxiliary_heads.0.conv_seg.weight']),
                in_index=1,
                channel_dropout=False,
            )
        ]
    return model


def _vit(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    width, channels, patch, _ = tensors['backbone.patch_embed.projection.weight'].shape
    grid = math.isqrt(tensors['backbone.pos_embed'].shape[1] - 1)
    sizes: dict[str, Any] = dict(
        type='VisionTransformer',
        img_size=grid * patch,
        patch_size=patch,
        embed_dims=width,
        num_layers=count_layers(tensors, 'backbone.layers.'),
    )
    if 'backbone.stem.conv.weight' in tensors:
        last = [f'backbone.stages.{i}.blocks.0.conv3.weight' for i in range(3)]
        del sizes['patch_size']
        sizes |= dict(
            type='HybridVisionTransformer',
            img_size=grid * 16,
            stem_channels=len(tensors['backbone.stem.conv.weight']),
            stage_channels=tuple(len(tensors[key]) for key in last),
            stage_depths=tuple(count_layers(tensors, f'backbone.stages.{i}.blocks.') for i in range(3)),
        )
    hidden = len(tensors['backbone.layers.0.ffn.layers.0.0.weight'])
    if hidden != 4 * width:
        sizes['mlp_ratio'] = hidden / width
    if 'backbone.layers.0.attn.attn.in_proj_bias' not in tensors:
        sizes['qkv_bias'] = False
    if 'backbone.layers.0.ls1.gamma' in tensors:
        sizes['layer_scale_init'] = 1e-5
    return sizes


def _neck(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    reassemble = 'neck.reassemble_blocks'
    identity = tuple(i for i in range(4) if f'{reassemble}.projects.{i}.conv.weight' not in tensors)
    bias, norm = (f'neck.fusion_blocks.1.res_conv_unit1.conv1.{name}' for name in ('conv.bias', 'bn.weight'))
    sizes: dict[str, Any] = dict(
        type='DPTNeck',
        in_channels=tensors[f'{reassemble}.projects.3.conv.weight'].shape[1],
        channels=len(tensors['neck.convs.0.conv.weight']),
        post_process_channels=tuple(tensors[f'neck.convs.{i}.conv.weight'].shape[1] for i in range(4)),
        readout_type='project' if f'{reassemble}.readout_projects.3.0.weight' in tensors else 'ignore',
        norm='BN' if norm in tensors else None,
    )
    if bias in tensors:
        sizes['residual_bias'] = True
    if f'{reassemble}.batchnorm_layers.0.weight' in tensors:
        sizes['tap_norm'] = 'BN'
    return sizes | (dict(identity_levels=identity) if identity else {})


def _head(tensors: Mapping[str, Tensor], depth: bool) -> dict[str, Any]:
    channels = len(tensors['neck.convs.0.conv.weight'])
    if not depth:
        norm = 'BN' if 'decode_head.project.bn.weight' in tensors else None
        classes = len(tensors['decode_head.conv_seg.weight'])
        return dict(type='DPTHead', in_channels=channels, num_classes=classes, norm=norm)
    sizes: dict[str, Any] = dict(type='DepthHead', in_channels=channels)
    hidden, outputs = (len(tensors[f'decode_head.{name}.weight']) for name in ('conv2', 'conv_depth'))
    if hidden != 32:
        sizes['hidden_channels'] = hidden
    if 'decode_head.project.conv.weight' in tensors:
        sizes['project'] = True
    return sizes | (dict(num_bins=outputs) if outputs > 1 else {})
