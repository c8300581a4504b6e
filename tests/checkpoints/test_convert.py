"""Every key of every source is mapped or knowingly dropped, and nothing else passes."""

import re

import pytest
import torch

from dpt.checkpoints import convert
from dpt.checkpoints.convert import convert_known
from dpt.checkpoints.rules import (
    BACKBONE_FORMATS,
    DPT,
    MMSEG_DPT,
    MMSEG_VIT,
    MODEL_FORMATS,
    TIMM_VIT,
    TRAINED_VIT,
    Rule,
    recognise,
)


def _timm_keys(**kwargs) -> dict[str, torch.Tensor]:
    timm = pytest.importorskip('timm')
    return timm.create_model('vit_tiny_patch16_224', pretrained=False, **kwargs).state_dict()


def test_timm_vit_maps_onto_our_names_one_to_one(tiny):
    state_dict = _timm_keys()
    converted, report = convert(state_dict, TIMM_VIT.rules)
    ours = tiny.backbone_shapes(layers=12, width=192, patch=16, grid=14)
    assert set(converted) == {*ours, 'ln1.weight', 'ln1.bias'}
    assert report.unmapped == ()
    assert set(report.dropped) == {'head.weight', 'head.bias'}
    assert all(report.dropped.values())
    for source, target in report.mapped.items():
        assert converted[target] is state_dict[source]


def test_each_timm_key_gets_the_name_of_its_role():
    _, report = convert(_timm_keys(), TIMM_VIT.rules)
    assert {
        key: target for key, target in report.mapped.items() if re.match(r'(?!blocks\.(?!7\.))', key)
    } == {
        'cls_token': 'cls_token',
        'pos_embed': 'pos_embed',
        'patch_embed.proj.weight': 'patch_embed.projection.weight',
        'patch_embed.proj.bias': 'patch_embed.projection.bias',
        'blocks.7.norm1.weight': 'layers.7.ln1.weight',
        'blocks.7.norm1.bias': 'layers.7.ln1.bias',
        'blocks.7.attn.qkv.weight': 'layers.7.attn.attn.in_proj_weight',
        'blocks.7.attn.qkv.bias': 'layers.7.attn.attn.in_proj_bias',
        'blocks.7.attn.proj.weight': 'layers.7.attn.attn.out_proj.weight',
        'blocks.7.attn.proj.bias': 'layers.7.attn.attn.out_proj.bias',
        'blocks.7.norm2.weight': 'layers.7.ln2.weight',
        'blocks.7.norm2.bias': 'layers.7.ln2.bias',
        'blocks.7.mlp.fc1.weight': 'layers.7.ffn.layers.0.0.weight',
        'blocks.7.mlp.fc1.bias': 'layers.7.ffn.layers.0.0.bias',
        'blocks.7.mlp.fc2.weight': 'layers.7.ffn.layers.1.weight',
        'blocks.7.mlp.fc2.bias': 'layers.7.ffn.layers.1.bias',
        'norm.weight': 'ln1.weight',
        'norm.bias': 'ln1.bias',
    }


def test_dinov2_shaped_vit_maps_its_layer_scale(tiny):
    state_dict = {**_timm_keys(init_values=1e-5, num_classes=0), 'mask_token': torch.zeros(1, 192)}
    converted, report = convert_known(state_dict, BACKBONE_FORMATS)
    ours = tiny.backbone_shapes(layers=12, width=192, patch=16, grid=14, layer_scale=True)
    assert set(converted) == {*ours, 'ln1.weight', 'ln1.bias'}
    assert set(report.dropped) == {'mask_token'}
    assert report.source == 'DINOv2'


@pytest.mark.parametrize(
    'key',
    [
        'head_dist.weight',
        'dist_token',
        'reg_token',
        'register_tokens',
        'norm_pre.weight',
        'blocks.0.attn.q_norm.weight',
        'blocks.0.attn.k_norm.bias',
        'blocks.0.mlp.w12.weight',
        'blocks.0.gamma_1',
        'head.fc.weight',
    ],
)
def test_keys_that_change_the_output_are_refused(key):
    state_dict = {'patch_embed.proj.weight': 0, 'blocks.0.norm1.weight': 1, key: 2}
    assert convert(state_dict, TIMM_VIT.rules)[1].unmapped == (key,)
    with pytest.raises(ValueError, match=rf'(?s)1 of 3 keys.*: {re.escape(key)}\..*vit2mmseg'):
        convert_known(state_dict, BACKBONE_FORMATS)


def test_bare_backbone_keys_stay_as_they_are(tiny):
    keys = {**tiny.backbone_shapes(layer_scale=True), 'ln1.weight': (4,), 'ln1.bias': (4,)}
    converted, report = convert_known(keys, BACKBONE_FORMATS)
    assert converted == keys
    assert report.source == MMSEG_VIT.name


@pytest.mark.parametrize('whole', ['model_shapes', 'mmseg_shapes'])
def test_backbone_is_taken_out_of_a_trained_model(tiny, whole):
    keys = {**getattr(tiny, whole)(layer_scale=True), 'auxiliary_heads.0.conv_seg.bias': (5,)}
    converted, report = convert_known(keys, BACKBONE_FORMATS)
    assert converted == tiny.backbone_shapes(layer_scale=True)
    assert report.source == TRAINED_VIT.name
    assert set(report.dropped) == {key for key in keys if not key.startswith('backbone.')}


def test_mmseg_head_becomes_neck_and_head(tiny):
    keys = {**tiny.mmseg_shapes(), 'auxiliary_head.conv_seg.bias': (5,)}
    converted, report = convert_known(keys, MODEL_FORMATS)
    assert converted == tiny.model_shapes()
    assert report.source == MMSEG_DPT.name
    assert set(report.dropped) == {'auxiliary_head.conv_seg.bias'}
    assert report.mapped['decode_head.convs.0.conv.weight'] == 'neck.convs.0.conv.weight'
    assert report.mapped['decode_head.project.conv.weight'] == 'decode_head.project.conv.weight'


def test_our_own_models_keep_their_names(tiny):
    keys = {**tiny.model_shapes(), 'auxiliary_heads.0.conv_seg.bias': (5,)}
    converted, report = convert_known(keys, MODEL_FORMATS)
    assert converted == keys
    assert report.source == DPT.name


def test_an_unknown_part_of_an_mmseg_head_is_refused(tiny):
    with pytest.raises(ValueError, match=r'decode_head\.mask_embed\.weight'):
        convert_known({**tiny.mmseg_shapes(), 'decode_head.mask_embed.weight': (1,)}, MODEL_FORMATS)


def test_rules_match_whole_keys_and_the_first_one_decides():
    rules = (Rule(r'a\.(.+)', None, 'because'), Rule(r'(.)\.b', r'x.\1'))
    converted, report = convert({'a.b': 1, 'c.b': 2, 'c.b.d': 3}, rules)
    assert converted == {'x.c': 2}
    assert (report.mapped, report.dropped, report.unmapped) == (
        {'c.b': 'x.c'},
        {'a.b': 'because'},
        ('c.b.d',),
    )


def test_two_sources_of_one_target_are_an_error():
    with pytest.raises(ValueError, match='both a.w and b.w become c.w'):
        convert({'a.w': 1, 'b.w': 2}, (Rule(r'[ab]\.w', 'c.w'),))


def test_unknown_source_says_what_was_looked_for_and_found():
    with pytest.raises(ValueError, match='found') as caught:
        recognise(['conv1.weight', 'fc.bias'], BACKBONE_FORMATS)
    for word in ('blocks.0.norm1.weight', 'layers.0.ln1.weight', '2 keys', 'conv1.weight', 'vit2mmseg.py'):
        assert word in str(caught.value)


def test_a_backbone_given_as_whole_model_is_named_as_such(tiny):
    with pytest.raises(ValueError, match='bare backbone in MMSegmentation keys'):
        recognise(tiny.backbone_shapes(), MODEL_FORMATS)


def test_table_folds_layers_and_counts_everything():
    table = convert(_timm_keys(), (*TIMM_VIT.rules[:-3], *TIMM_VIT.rules[-2:]))[1].table().splitlines()
    assert re.fullmatch(r' *12 x blocks\.\*\.norm1\.weight +-> layers\.\*\.ln1\.weight', table[4])
    assert sum('dropped: ' in line for line in table) == 2
    assert sum('NOT MAPPED' in line for line in table) == 2
    assert table[-1] == '152 keys: 148 mapped, 2 dropped, 2 not mapped'
    assert sum(int(line.split(' x ')[0]) for line in table[:-1]) == 152
