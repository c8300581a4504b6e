"""Write ``published_reference.npz``: what the original code of published models computes for tiny ones.

    python tests/models/make_published_reference.py FOLDER

FOLDER holds clones: dpt (isl-org/DPT), depth-anything-v2, unimatch-v2 and dinov2. The models are narrow, in
float64, with the weights of ``fill``.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'benchmarks'), str(Path(__file__).parent)]

from depth_chain import originals  # noqa: E402
from depth_chain.originals import Forward, importing  # noqa: E402
from depth_chain.table import REFERENCES  # noqa: E402
from isl_formula import fill, image  # noqa: E402
from published_models import CHANNELS, CLASSES, FILES, LEVELS, SIZES, STAGES, STEM, WIDTH  # noqa: E402

NARROW = dict(embed_dim=WIDTH, num_heads=1, img_size=56)


def narrowed(module: ModuleType) -> Any:
    """Make the ViTs of a module of DINOv2 narrow."""
    original = module.DinoVisionTransformer
    return mock.patch.object(module, 'DinoVisionTransformer', lambda **kw: original(**{**kw, **NARROW}))


def depth_anything_v2(folder: str = '.', **options: Any) -> tuple[nn.Module, Forward]:
    with importing('depth-anything-v2', 'depth_anything_v2', folder=folder):
        from depth_anything_v2 import dinov2
        from depth_anything_v2.dpt import DepthAnythingV2

        with narrowed(dinov2):
            model = DepthAnythingV2('vits', CHANNELS, list(LEVELS), **options)
    return model, lambda x: model(x)[:, None]


def unimatch_v2() -> tuple[nn.Module, Forward]:
    with importing('unimatch-v2', 'model'):
        from model.backbone import dinov2
        from model.semseg.dpt import DPT

        with narrowed(dinov2):
            model = DPT('small', CLASSES, CHANNELS, list(LEVELS))
    return model, model


def dinov2_head() -> tuple[nn.Module, Forward]:
    with importing('dinov2', 'dinov2'):
        from dinov2.hub.depthers import _make_dinov2_dpt_depther
        from dinov2.models import vision_transformer

        with narrowed(vision_transformer):
            model = _make_dinov2_dpt_depther(arch_name='vit_small', pretrained=False)
    return model, lambda x: model.decode_head(list(model.extract_feat(x)), None)


def isl(hybrid: bool, **options: Any) -> tuple[nn.Module, Forward]:
    from timm.layers import StdConv2dSame
    from timm.models import resnetv2, vision_transformer, vision_transformer_hybrid

    sizes = dict(img_size=64, embed_dim=WIDTH, depth=12, num_heads=1)
    vit: nn.Module
    if hybrid:
        stem = resnetv2.ResNetV2(
            layers=(1, 2, 1),
            channels=STAGES,
            stem_chs=STEM,
            num_classes=0,
            global_pool='',
            preact=False,
            stem_type='same',
            conv_layer=functools.partial(StdConv2dSame, eps=1e-8),
        )
        embed = vision_transformer_hybrid.HybridEmbed
        vit = vision_transformer.VisionTransformer(
            **sizes, embed_layer=lambda **kw: embed(backbone=stem, **{**kw, 'patch_size': 1})
        )
    else:
        vit = vision_transformer.VisionTransformer(**sizes, patch_size=16)
    levels = (*STAGES[:2], *LEVELS[2:]) if hybrid else LEVELS
    with importing('dpt', 'dpt'):
        from dpt.blocks import _make_scratch

        from dpt import models
        from dpt import vit as vits

        make: Callable = vits._make_vit_b_rn50_backbone if hybrid else vits._make_vit_b16_backbone
        hooks = [0, 1, 8, 11] if hybrid else [2, 5, 8, 11]
        pretrained = make(vit, features=list(levels), hooks=hooks, vit_features=WIDTH, use_readout='project')
        parts = (pretrained, _make_scratch(list(levels), CHANNELS))
        with mock.patch.object(models, '_make_encoder', return_value=parts):
            model = models.DPTDepthModel(features=CHANNELS, backbone='vitb16_384', **options)
    originals.standardise_as_timm_045(model)
    return model, lambda x: model(x)[:, None]


MODELS = {
    'depth_anything_v2': depth_anything_v2,
    'depth_anything_v2_metric': lambda: depth_anything_v2('metric_depth', max_depth=20.0),
    'unimatch_v2': unimatch_v2,
    'dinov2_head': dinov2_head,
    'isl_vit': lambda: isl(hybrid=False),
    'isl_hybrid': lambda: isl(hybrid=True, scale=0.00006016, shift=0.00579, invert=True),
}


@torch.no_grad()
def main() -> None:
    """Write the file beside this one."""
    for name in ('dpt', 'depth-anything-v2', 'unimatch-v2', 'dinov2'):
        REFERENCES[name] = Path(sys.argv[1]) / name
    arrays = {}
    for name, build in MODELS.items():
        model, forward = build()
        model.double().eval()
        tensors = model.state_dict()
        model.load_state_dict({key: fill(key, tuple(value.shape)) for key, value in tensors.items()})
        arrays[f'{name}_keys'] = np.array(list(tensors))
        arrays[f'{name}_shapes'] = np.array([str(tuple(value.shape)) for value in tensors.values()])
        for size in SIZES[FILES[name][1]]:
            arrays[f'{name}_{size[0]}x{size[1]}'] = forward(image(size)).float().numpy()
            print(name, size, arrays[f'{name}_{size[0]}x{size[1]}'].std())
    np.savez_compressed(Path(__file__).with_name('published_reference.npz'), **arrays)


if __name__ == '__main__':
    main()
