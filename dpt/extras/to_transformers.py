"""Convert models to those of transformers, with the inverse of the tables for its files."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpt.checkpoints.formats import published as sources
from dpt.extras.transformers_encoder import (
    Encoder,
    at_size,
    dinov2_values,
    encoder_of,
    encoder_tensors,
    refuse,
    renamed,
    vit_values,
)
from dpt.models.heads import DepthHead, DPTHead
from dpt.models.necks import DPTNeck


@dataclass(frozen=True)
class Exported:
    """A model of transformers.

    Args:
        tensors: Content of ``model.safetensors``.
        config: Content of ``config.json``.
        preprocessor: Content of ``preprocessor_config.json``.
        notes: What transformers computes differently, one sentence each.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    notes: tuple[str, ...] = ()


def to_transformers(model: Any, size: int | None = None, classes: tuple[str, ...] = ()) -> Exported:
    """Convert a depth or segmentation model to one of transformers.

    Args:
        model: A ``DepthEstimator`` or ``EncoderDecoder`` with its weights.
        size: Side in pixels to which transformers resizes images; ``None`` is that of the pretraining of the
            encoder. DPT of transformers takes square images only.
        classes: Names of the classes of a segmentation model.

    Raises:
        ValueError: If no model of transformers computes the same; the message gives the reason.
    """
    encoder = encoder_of(model.backbone)
    head, neck = model.decode_head, model.neck
    if type(neck) is not DPTNeck or type(head) not in (DepthHead, DPTHead):
        raise ValueError(
            f'transformers has no model with {type(neck).__name__} and {type(head).__name__}; supported are '
            'DPTNeck with DepthHead or DPTHead'
        )
    if not model.data_preprocessor.bgr_to_rgb:
        raise ValueError('transformers gives RGB images, but data_preprocessor.bgr_to_rgb is False')
    size = size or encoder.grid * encoder.patch_size
    anything = encoder.normed and type(head) is DepthHead
    step = encoder.patch_size * (1 if anything else 2)
    if size % step:
        raise ValueError(f'size={size} must be a multiple of {step}')
    notes: list[str] = []
    if encoder.normed or encoder.layer_scale:
        if encoder.resize != ('bicubic', 0.0):
            notes.append(
                'transformers resizes the position embedding in another way: results are equal for images of '
                f'{encoder.grid * encoder.patch_size} x {encoder.grid * encoder.patch_size} pixels only'
            )
    elif encoder.grid * encoder.patch_size != size and (encoder.stem or encoder.resize[0] != 'bilinear'):
        encoder = at_size(encoder, size)
        notes.append(
            f'the position embedding was resized: results are equal for images of {size} x {size} pixels'
        )
    if type(head) is DPTHead:
        source, config = sources.HF_SEGMENTATION, _segmentation(encoder, neck, head, classes)
        if head.upsample_factor != 2:
            notes.append(
                'transformers upsamples logits by 2 before it resizes them, the model by '
                f'{head.upsample_factor}: labels at the borders of objects may differ'
            )
    else:
        source, config = _depth(encoder, neck, head)
    others = ('backbone.', 'auxiliary_heads.')  # auxiliary heads are used only in training
    tail = {key: value for key, value in model.state_dict().items() if not key.startswith(others)}
    tensors = encoder_tensors(encoder, source.prefix)
    tensors |= renamed(tail, {ours: theirs for theirs, ours in source.keys.items()})
    tensors |= _unused_lateral(neck)
    preprocessor = _preprocessor(model, encoder.patch_size, size, anything)
    return Exported(tensors, config, preprocessor, tuple(notes))


def _neck_values(encoder: Encoder, neck: Any) -> dict[str, Any]:
    unit = neck.fusion_blocks[1].res_conv_unit1.conv1
    identity = neck.reassemble_blocks.identity_levels
    refuse(
        {
            "norm 'BN' or None in the neck": unit.gn is not None,
            'identity_levels=(0, 1) with a stem, else ()': set(identity)
            != ({0, 1} if encoder.stem else set()),
        }
    )
    return dict(
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_sizes=[conv.conv.in_channels for conv in neck.convs],
        fusion_hidden_size=neck.convs[0].conv.out_channels,
    )


def _dpt_values(encoder: Encoder, neck: Any) -> dict[str, Any]:
    """Return the config of a DPT of transformers without the architecture and its head."""
    unit = neck.fusion_blocks[1].res_conv_unit1.conv1
    values = dict(
        model_type='dpt',
        readout_type=neck.reassemble_blocks.readout_type,
        use_batch_norm_in_fusion_residual=unit.bn is not None,
        use_bias_in_fusion_residual=unit.conv.bias is not None,
        is_hybrid=bool(encoder.stem),
        **_neck_values(encoder, neck),
    )
    if encoder.layer_scale:
        return values | dict(backbone_config=dinov2_values(encoder))
    values |= dict(**vit_values(encoder), backbone_out_indices=list(encoder.taps))
    if encoder.stem:
        grid, stages = encoder.grid, encoder.stem['stages']
        values |= dict(
            backbone_out_indices=[0, 1, *encoder.taps],
            neck_ignore_stages=[0, 1],
            backbone_featmap_shape=[1, stages[-1], grid, grid],
            backbone_config=dict(
                model_type='bit',
                layer_type='bottleneck',
                global_padding='same',
                embedding_dynamic_padding=True,
                embedding_size=encoder.stem['channels'],
                hidden_sizes=stages,
                depths=encoder.stem['depths'],
                out_features=['stage1', 'stage2', 'stage3'],
            ),
        )
    return values


def _depth(encoder: Encoder, neck: Any, head: DepthHead) -> tuple[sources.Source, dict[str, Any]]:
    hidden, project = head.conv2.out_channels, head.project is not None
    wrong = {
        'in_index=0 in the head': head.in_index != 0,
        'min_depth=0': head.min_depth != 0,
        f'channels={head.conv1.in_channels // 2}': head.conv1.out_channels != head.conv1.in_channels // 2,
    }
    if encoder.normed:
        unit = neck.fusion_blocks[1].res_conv_unit1.conv1
        refuse(
            wrong
            | {
                'an encoder of DINOv2 (with layer scale)': not encoder.layer_scale,
                f'upsample_factor={encoder.patch_size / 8}': head.upsample_factor != encoder.patch_size / 8,
                "output 'sigmoid' or 'relu'": head.output not in ('sigmoid', 'relu'),
                'project=False': project,
                "readout_type='ignore'": neck.reassemble_blocks.readout_type != 'ignore',
                'norm=None and residual_bias=True': unit.bn is not None or unit.conv.bias is None,
                "odd_grids='lateral'": neck.odd_grids != 'lateral',
                'a whole number for max_depth': (head.max_depth or 0) % 1 != 0,
            }
        )
        metric = head.output == 'sigmoid'
        return sources.HF_DEPTH_ANYTHING, dict(
            architectures=['DepthAnythingForDepthEstimation'],
            model_type='depth_anything',
            backbone_config=dinov2_values(encoder),
            patch_size=encoder.patch_size,
            reassemble_hidden_size=encoder.width,
            **_neck_values(encoder, neck),
            head_hidden_size=hidden,
            depth_estimation_type='metric' if metric else 'relative',
            max_depth=int(head.max_depth or 1) if metric else 1,
        )
    refuse(
        wrong
        | {
            'hidden_channels=32': hidden != 32,
            'upsample_factor=2': head.upsample_factor != 2,
            "output='relu'": head.output != 'relu',
            'channels=256 with project=True': project and head.conv1.in_channels != 256,
            "odd_grids='path'": neck.odd_grids != 'path',
        }
    )
    config = dict(
        architectures=['DPTForDepthEstimation'], **_dpt_values(encoder, neck), add_projection=project
    )
    config['depth_estimation_type'] = 'relative' if head.relative else 'metric'
    return (sources.HF_DINOV2_DEPTH if encoder.layer_scale else sources.HF_DEPTH), config


def _segmentation(encoder: Encoder, neck: Any, head: DPTHead, classes: tuple[str, ...]) -> dict[str, Any]:
    count = head.num_classes
    refuse(
        {
            "norm='BN' in the head": head.project.bn is None,
            'norm_taps=False': encoder.normed,
            'an encoder without layer scale': encoder.layer_scale,
            "odd_grids='path'": neck.odd_grids != 'path',
            f'channels={head.project.conv.in_channels}': (
                head.project.conv.out_channels != head.project.conv.in_channels
            ),
        }
    )
    names = classes if len(classes) == count else tuple(f'class {i}' for i in range(count))
    return dict(
        architectures=['DPTForSemanticSegmentation'],
        **_dpt_values(encoder, neck),
        use_auxiliary_head=False,
        id2label={str(i): name for i, name in enumerate(names)},
        label2id={name: i for i, name in enumerate(names)},
    )


def _unused_lateral(neck: Any) -> dict[str, Tensor]:
    """Return the residual unit that transformers has, but does not call, in the coarsest fusion block."""
    inverse = {ours: theirs for theirs, ours in sources.HF_DEPTH.keys.items()}
    tensors = neck.state_dict(prefix='neck.')
    unit = {
        key: value for key, value in tensors.items() if key.startswith('neck.fusion_blocks.1.res_conv_unit1.')
    }
    found = renamed(unit, inverse)
    return {key.replace('layers.1.', 'layers.0.'): torch.zeros_like(value) for key, value in found.items()}


def _preprocessor(model: Any, patch: int, size: int, keep_ratio: bool) -> dict[str, Any]:
    given = model.data_preprocessor
    mean, std = ([round(x / 255, 6) for x in one.flatten().tolist()] for one in (given.mean, given.std))
    return dict(
        image_processor_type='DPTImageProcessor',
        do_resize=True,
        size=dict(height=size, width=size),
        keep_aspect_ratio=keep_ratio,
        ensure_multiple_of=patch if keep_ratio else 1,
        resample=2 if type(model.decode_head) is DPTHead else 3,  # bilinear, bicubic
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=mean,
        image_std=std,
        do_pad=False,
    )
