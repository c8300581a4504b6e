"""The model against the original DPT, whose values are in ``isl_reference.npz``, through the converter."""

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from isl_formula import (
    CHANNELS,
    CLASSES,
    DEPTHS,
    HEADS,
    LEVELS,
    SIDE,
    SIZES,
    STAGES,
    STEM,
    WIDTH,
    fill,
    image,
)
from mmengine.config import Config
from tiny_models import assert_close

from dpt.checkpoints import load_model
from dpt.checkpoints.formats.isl import LAYOUTS, Layout
from dpt.config.load import load_config
from dpt.registry import MODELS

REFERENCE = np.load(Path(__file__).with_name('isl_reference.npz'))
ENCODERS = list(LEVELS)


def original_weights(encoder: str) -> dict[str, torch.Tensor]:
    """The original's state dict, as the original filled it."""
    shapes = map(ast.literal_eval, REFERENCE[f'{encoder}_shapes'].tolist())
    keys = REFERENCE[f'{encoder}_keys'].tolist()
    return {key: fill(key, tuple(shape)) for key, shape in zip(keys, shapes, strict=True)}


def layout(encoder: str) -> Layout:
    return next(one for one in LAYOUTS if one.name.split()[0] == encoder)


def tiny(encoder: str, repository: Path) -> Config:
    """The config that the converter names, with the options it names, at the reference's width."""
    options = dict(option.split('=') for option in layout(encoder).options)
    config = load_config(
        str(repository / layout(encoder).config), {k: ast.literal_eval(v) for k, v in options.items()}
    )
    model = config.model
    assert model.backbone.get('num_layers') == DEPTHS[encoder]
    model.backbone.update(img_size=SIDE, embed_dims=WIDTH, num_heads=HEADS, init_cfg=None)
    if encoder == 'vitb_rn50_384':
        model.backbone.update(stem_channels=STEM, stage_channels=STAGES)
    model.neck.update(in_channels=WIDTH, channels=CHANNELS, post_process_channels=LEVELS[encoder])
    for head in (model.decode_head, *model.auxiliary_heads):
        head.update(in_channels=CHANNELS, channels=CHANNELS, num_classes=CLASSES)
    return config


@pytest.mark.parametrize('encoder', ENCODERS)
def test_converted_file_gives_original_logits(
    encoder: str, repository: Path, tmp_path: Path, tool_main: Callable
) -> None:
    torch.save({'optimizer': {}, 'model': original_weights(encoder)}, tmp_path / 'original.pt')
    convert = tool_main('tools/model_converters/isl2dpt.py')
    assert convert(tmp_path / 'original.pt', tmp_path / 'converted.pth') == 0
    model = MODELS.build(tiny(encoder, repository).model).double().eval()
    report = load_model(model, tmp_path / 'converted.pth')
    assert not report.dropped
    with torch.no_grad():
        for size in SIZES:
            maps = model.extract_feat(image(size))
            for head, key in (
                (model.decode_head, encoder),
                (model.auxiliary_heads[0], f'{encoder}_auxiliary'),
            ):
                assert_close(head(maps), torch.from_numpy(REFERENCE[f'{key}_{size[0]}x{size[1]}']))


@pytest.mark.parametrize('encoder', ENCODERS)
def test_layouts_equal_original_keys(encoder: str) -> None:
    assert sorted(layout(encoder).keys()) == sorted(REFERENCE[f'{encoder}_keys'].tolist())
