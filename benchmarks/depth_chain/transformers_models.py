"""Models of transformers with random weights, narrow and shallow."""

from collections.abc import Callable
from typing import Any

from torch import nn

from depth_chain.originals import Forward

WIDTH, LAYERS = 64, 4
NECK = dict(neck_hidden_sizes=[16, 24, 32, 40], fusion_hidden_size=32)


def _dpt(**options: Any) -> Any:
    from transformers import DPTConfig

    sizes = dict(hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=128)
    return DPTConfig(**{**sizes, **NECK, 'image_size': 128, 'backbone_out_indices': [0, 1, 2, 3], **options})


def _dinov2(**options: Any) -> Any:
    from transformers import Dinov2Config

    return Dinov2Config(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        image_size=112,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        **options,
    )


def depth(config: Any) -> tuple[nn.Module, Forward]:
    """Return a depth model of transformers."""
    from transformers import AutoModelForDepthEstimation

    model = AutoModelForDepthEstimation.from_config(config)
    return model, lambda x: model(x).predicted_depth[:, None]


def segmentation(config: Any) -> tuple[nn.Module, Forward]:
    """Return ``DPTForSemanticSegmentation``."""
    from transformers import DPTForSemanticSegmentation

    model = DPTForSemanticSegmentation(config)
    return model, lambda x: model(x).logits


def dpt() -> Any:
    """Return the config of a plain DPT."""
    return _dpt()


def hybrid() -> Any:
    """Return the config of a DPT-Hybrid."""
    stem = dict(
        model_type='bit',
        global_padding='same',
        layer_type='bottleneck',
        depths=[2, 2, 2],
        embedding_size=32,
        hidden_sizes=[128, 128, 256],
        out_features=['stage1', 'stage2', 'stage3'],
        embedding_dynamic_padding=True,
    )
    return _dpt(
        is_hybrid=True,
        backbone_config=stem,
        backbone_featmap_shape=[1, 256, 8, 8],
        neck_hidden_sizes=[128, 128, 32, 40],
    )


def dpt_dinov2() -> Any:
    """Return the config of a DPT with a DINOv2 encoder and a convolution before the head."""
    from transformers import DPTConfig

    neck = dict(NECK, fusion_hidden_size=256)  # the channels of the convolution are fixed
    return DPTConfig(
        backbone_config=_dinov2(apply_layernorm=False),
        add_projection=True,
        use_bias_in_fusion_residual=False,
        **neck,
    )


def depth_anything(**options: Any) -> Any:
    """Return the config of a Depth Anything model."""
    from transformers import DepthAnythingConfig

    return DepthAnythingConfig(backbone_config=_dinov2(), reassemble_hidden_size=WIDTH, **NECK, **options)


SQUARE = ((128, 128), (80, 80))
ANY_14 = ((112, 112), (70, 70), (98, 168))
_NOT_SQUARE = 'images that are not square are refused by the reference'

CASES: tuple[tuple[str, Callable[[], tuple[nn.Module, Forward]], tuple[tuple[int, int], ...], str], ...] = (
    ('DPT, depth', lambda: depth(dpt()), SQUARE, _NOT_SQUARE),
    ('DPT-Hybrid, depth', lambda: depth(hybrid()), SQUARE[:1], 'other sizes are refused by the reference'),
    (
        'DPT, segmentation',
        lambda: segmentation(_dpt(num_labels=7, use_batch_norm_in_fusion_residual=True)),
        SQUARE,
        _NOT_SQUARE,
    ),
    ('DPT with DINOv2, depth', lambda: depth(dpt_dinov2()), ANY_14, ''),
    ('Depth Anything', lambda: depth(depth_anything()), ANY_14, ''),
    (
        'Depth Anything, metric',
        lambda: depth(depth_anything(depth_estimation_type='metric', max_depth=20)),
        ANY_14,
        '',
    ),
)
