"""Attention weights against torch's own module, and maps of a whole model."""

import numpy as np
import pytest
import torch
from torch import nn

from dpt.extras.attention import attention_maps, attention_row, draw_maps, heat, readout_change
from dpt.models.backbones.transformer_layer import MultiheadAttention
from dpt.models.necks.reassemble import ReassembleBlocks
from dpt.registry import MODELS


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('query', [0, 5])
def test_weights_are_those_of_torch(bias, query):
    torch.manual_seed(0)
    ours = MultiheadAttention(12, 3, qkv_bias=bias, attn_drop_rate=0.0)
    theirs = nn.MultiheadAttention(12, 3, bias=bias, batch_first=True)
    ours.in_proj_weight.data.normal_()
    if bias:
        ours.in_proj_bias.data.normal_()
    names = dict(ours.named_parameters())
    theirs.load_state_dict({name: names[name] for name in theirs.state_dict()})
    x = torch.randn(1, 7, 12)
    _, expected = theirs(x, x, x, need_weights=True, average_attn_weights=False)
    with torch.no_grad():
        row = attention_row(ours, x, query)
    torch.testing.assert_close(row, expected[0, :, query].detach())
    torch.testing.assert_close(row.sum(dim=1), torch.ones(3))


@pytest.fixture
def tiny(model_config):
    """Function that builds the small model with random weights."""

    def build(readout_type='project', **backbone):
        torch.manual_seed(0)
        vit, neck = model_config['backbone'], model_config['neck']
        changed = dict(backbone={**vit, **backbone}, neck={**neck, 'readout_type': readout_type})
        model = MODELS.build({**model_config, **changed}).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        return model

    return build


def test_every_tap_has_maps_and_the_model_is_unchanged(tiny):
    model, inputs = tiny(), torch.randn(1, 3, 40, 72)  # a grid of 3x5, padded at the bottom and right
    with torch.no_grad():
        before = model.backbone(inputs)
    for pixel, token in ((None, 0), ((0, 0), 1), ((39, 71), 15), ((16, 15), 6)):
        maps = attention_maps(model, inputs, pixel)
        assert [one.layer for one in maps] == [0, 1, 2, 3]
        # The first layer's row, from the embedded tokens.
        with torch.no_grad():
            tokens = model.backbone.layers[0].ln1(model.backbone._embed(inputs)[0])
            row = attention_row(model.backbone.layers[0].attn.attn, tokens, token)
        torch.testing.assert_close(maps[0].attention.flatten(1), row[:, 1:])
        torch.testing.assert_close(maps[0].to_class_token, row[:, 0])
        assert maps[0].attention.shape == (2, 3, 5)
        assert maps[0].readout.shape == (3, 5)
    with torch.no_grad():
        after = model.backbone(inputs)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_readout_is_the_change_by_the_class_token():
    torch.manual_seed(0)
    feature_map, cls_token = torch.randn(1, 8, 3, 5), torch.randn(1, 8)
    tap = (feature_map, cls_token)
    settings = dict(in_channels=8, out_channels=(4, 8, 8, 8))
    assert readout_change(ReassembleBlocks(**settings, readout_type='ignore'), 0, tap) is None
    added = readout_change(ReassembleBlocks(**settings, readout_type='add'), 0, tap)
    torch.testing.assert_close(added, cls_token.norm() / feature_map[0].norm(dim=0))
    blocks = ReassembleBlocks(**settings, readout_type='project')
    # What the neck itself computes from either class token, before its projection to a level's channels.
    blocks.projects[1] = blocks.resize_layers[1] = nn.Identity()
    with torch.no_grad():
        with_token = blocks([tap] * 4)[1]
        without = blocks([(feature_map, torch.zeros(1, 8))] * 4)[1]
        change = readout_change(blocks, 1, tap)
    torch.testing.assert_close(change, ((with_token - without)[0].norm(dim=0) / without[0].norm(dim=0)))
    assert change.std() > 0


@pytest.mark.parametrize('backbone', [dict(output_cls_token=False), {}])
def test_without_a_readout_there_are_attention_maps_alone(tiny, backbone):
    model = tiny('ignore', **backbone)
    maps = attention_maps(model, torch.randn(1, 3, 32, 32))
    assert all(one.readout is None for one in maps)
    picture = np.full((32, 32, 3), 100, np.uint8)
    assert len(draw_maps(picture, maps)) == 5
    assert len(draw_maps(picture, attention_maps(tiny(), torch.randn(1, 3, 32, 32)), (3, 4))) == 10


def test_what_cannot_be_shown_is_refused(tiny):
    with pytest.raises(ValueError, match='outside the image of 32x48'):
        attention_maps(tiny(), torch.zeros(1, 3, 32, 48), (32, 0))
    other = nn.Module()
    other.backbone = nn.Conv2d(3, 8, 3)
    with pytest.raises(ValueError, match='require a ViT backbone, not Conv2d'):
        attention_maps(other, torch.zeros(1, 3, 32, 32))


def test_heat_covers_cells_exactly():
    picture = np.zeros((20, 30, 3), np.uint8)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    drawn = heat(picture, values, 16, alpha=1)[:, :, :]
    assert drawn.shape == (20, 30, 3)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cell = drawn[16 * row : 16 * row + 16, 16 * column : 16 * column + 16].reshape(-1, 3)
        assert len(np.unique(cell, axis=0)) == 1
    assert drawn[0, 0].sum() < drawn[0, 29].sum() < drawn[19, 0].sum() < drawn[19, 29].sum()
    heat(picture, np.ones((2, 2), np.float32), 16)  # all equal: no division by zero
