"""Layer-wise decay of the learning rate, compared with timm and with MMSegmentation's formula."""

import pytest
import timm
import torch
from mmengine.optim import build_optim_wrapper
from timm.optim import param_groups_layer_decay
from torch import nn

from dpt.checkpoints import convert
from dpt.checkpoints.formats import TIMM_VIT
from dpt.models.backbones import HybridVisionTransformer, TimmBackbone, VisionTransformer

VIT = dict(embed_dim=24, depth=4, num_heads=2)
RATE, DECAY = 1e-3, 0.05
OWN = dict(embed_dims=24, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3))
CONVNEXT = dict(depths=(1, 1, 2, 1), dims=(8, 8, 8, 8))


class Model(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.decode_head = nn.Linear(2, 2)


def settings(backbone: nn.Module, constructor: str = 'LearningRateDecayOptimizerConstructor', **paramwise):
    """Learning rate and weight decay by parameter name."""
    model = Model(backbone)
    optimizer = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='AdamW', lr=RATE, weight_decay=DECAY),
            constructor=constructor,
            paramwise_cfg=paramwise,
        ),
    ).optimizer
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for parameter in group['params']
    }


def of_timm(name: str, **arguments) -> dict[str, tuple[float, float]]:
    model = timm.create_model(name, **arguments)
    exempt = getattr(model, 'no_weight_decay', tuple)()
    groups = param_groups_layer_decay(model, weight_decay=DECAY, no_weight_decay_list=exempt, layer_decay=0.7)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (RATE * group['lr_scale'], group['weight_decay'])
        for group in groups
        for parameter in group['params']
    }


def assert_agree(ours: dict, theirs: dict) -> None:
    assert ours
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name]), name


@pytest.mark.parametrize(('name', 'arguments'), [('vit_base_patch16_224', VIT), ('convnext_tiny', CONVNEXT)])
def test_groups_equal_timm(name: str, arguments: dict) -> None:
    ours = settings(TimmBackbone(name, (0, 1, 2, 3), model_args=arguments), decay_rate=0.7)
    assert ours.pop('decode_head.weight') == (RATE, DECAY)
    assert ours.pop('decode_head.bias') == (RATE, 0.0)
    ours = {key.removeprefix('backbone.model.'): value for key, value in ours.items()}
    assert_agree(ours, of_timm(name, **arguments))


def test_own_vit_equals_timm() -> None:
    ours = settings(VisionTransformer(32, norm_taps=True, **OWN), decay_rate=0.7, num_layers=4)
    theirs = of_timm('vit_base_patch16_224', **VIT)
    names = {key: key for key in theirs if not key.startswith('head')}
    converted, _ = convert(names, TIMM_VIT)
    assert {f'backbone.{key}' for key in converted} == {key for key in ours if key.startswith('backbone')}
    assert_agree({theirs: ours[f'backbone.{key}'] for key, theirs in converted.items()}, theirs)


def test_stem_of_a_hybrid_is_the_first_layer() -> None:
    sizes = dict(stem_channels=32, stage_channels=(128, 128, 128), stage_depths=(1, 1, 1))
    backbone = HybridVisionTransformer(32, **sizes, **{**OWN, 'out_indices': (1, 3)})
    ours = settings(backbone, decay_rate=0.5)
    first = {name for name, (rate, _) in ours.items() if rate == RATE * 0.5**5}
    assert {name.split('.')[1] for name in first} == {
        'stem',
        'stages',
        'patch_embed',
        'cls_token',
        'pos_embed',
    }


def test_stages_follow_mmsegmentation() -> None:
    backbone = TimmBackbone('convnext_tiny', (0, 1, 2, 3), model_args=CONVNEXT)
    ours = settings(backbone, decay_rate=0.9, decay_type='stage_wise', num_layers=6)
    expected = [RATE * 0.9 ** (8 - stage - 1) for stage in range(5)]  # get_stage_id_for_convnext there
    assert ours['backbone.model.stem.0.weight'][0] == pytest.approx(expected[0])
    for i in range(4):
        assert ours[f'backbone.model.stages.{i}.blocks.0.mlp.fc1.weight'][0] == pytest.approx(expected[i + 1])
    assert ours['decode_head.weight'][0] == RATE


def test_older_name_and_key_do_the_same() -> None:
    def backbone() -> VisionTransformer:
        return VisionTransformer(32, **OWN)

    older = settings(backbone(), 'LayerDecayOptimizerConstructor', num_layers=4, layer_decay_rate=0.9)
    assert older == settings(backbone(), num_layers=4, decay_rate=0.9, decay_type='layer_wise')


def test_frozen_layers_are_left_out() -> None:
    ours = settings(VisionTransformer(32, frozen_stages=3, **OWN), decay_rate=0.9)
    assert {name.split('.')[2] for name in ours if name.startswith('backbone')} == {'3'}


@pytest.mark.parametrize(
    ('paramwise', 'words'),
    [
        ({}, 'decay_rate=None'),
        (dict(decay_rate=1.5), 'decay_rate=1.5'),
        (dict(decay_rate=0.9, decay_type='layerwise'), "'layer_wise' or 'stage_wise'"),
        (dict(decay_rate=0.9, num_layers=12), 'which has 4 layers'),
        (dict(decay_rate=0.9, num_layers=2, decay_type='stage_wise'), 'which has 4 stages'),
        (dict(decay_rate=0.9, norm_decay_mult=0.0), 'norm_decay_mult'),
    ],
)
def test_wrong_settings_are_errors(paramwise: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(VisionTransformer(32, **OWN), **paramwise)


def test_backbones_without_layer_numbers_are_errors() -> None:
    with pytest.raises(ValueError, match='Linear has no method layer_numbers'):
        settings(nn.Linear(2, 2), decay_rate=0.9)


def test_rates_reach_the_update() -> None:
    backbone = VisionTransformer(32, **OWN)
    model = Model(backbone)
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='SGD', lr=1.0),
            constructor='LearningRateDecayOptimizerConstructor',
            paramwise_cfg=dict(decay_rate=0.5),
        ),
    )
    before = [model.decode_head.weight.clone(), backbone.layers[2].ln1.weight.clone()]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    wrapper.step()
    torch.testing.assert_close(before[0] - model.decode_head.weight, torch.ones(2, 2))
    torch.testing.assert_close(before[1] - backbone.layers[2].ln1.weight, torch.full((24,), 0.25))
