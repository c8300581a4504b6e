"""TimmBackbone: its contract under the neck, freezing, checkpointing, and errors."""

import copy
import sys

import pytest
import torch
from torch import nn

from dpt.models.backbones import TimmBackbone, VisionTransformer
from dpt.models.necks import DPTNeck

VIT = dict(embed_dim=24, depth=4, num_heads=2)
ALL = dict(out_indices=(0, 1, 2, 3))
PYRAMID = dict(embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 1, 1))
FAMILIES = {
    'vit_base_patch16_224': (dict(**ALL, img_size=32, model_args=VIT), (16, True)),
    'vit_base_patch14_reg4_dinov2': (dict(**ALL, img_size=28, norm_taps=True, model_args=VIT), (14, True)),
    'vit_base_patch16_dinov3': (dict(**ALL, norm_taps=True, model_args=VIT), (16, True)),
    'vit_base_patch16_siglip_224': (dict(**ALL, img_size=32, model_args=VIT), (16, False)),
    'convnext_tiny': (dict(**ALL, model_args=dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32))), (4, False)),
    'swin_tiny_patch4_window7_224': (dict(**ALL, model_args=PYRAMID), (4, False)),
    'resnet50': (
        dict(out_indices=(1, 2, 3, 4), model_args=dict(layers=(1, 1, 1, 1), channels=(8, 8, 16, 16))),
        (4, False),
    ),
}


def build(name: str, **changes) -> TimmBackbone:
    torch.manual_seed(0)
    return TimmBackbone(name, **{**FAMILIES[name][0], **changes})


def randomised(module: nn.Module) -> nn.Module:
    """Random weights, so that layer scales of 1e-5 do not hide the layers."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module.eval()


def first(tap) -> torch.Tensor:
    return tap if isinstance(tap, torch.Tensor) else tap[0]


def neck_for(backbone: TimmBackbone) -> DPTNeck:
    if len(set(backbone.channels)) > 1:
        return DPTNeck(
            8,
            8,
            identity_levels=(0, 1, 2, 3),
            readout_type='ignore',
            post_process_channels=backbone.channels,
        )
    readout = 'project' if backbone.output_cls_token else 'ignore'
    return DPTNeck(backbone.channels[0], 8, readout_type=readout, post_process_channels=(4, 8, 8, 8))


@pytest.mark.parametrize('name', FAMILIES)
def test_every_parameter_learns_under_the_neck(name: str) -> None:
    backbone = build(name)
    stride, has_token = FAMILIES[name][1]
    taps = backbone(torch.randn(2, 3, 75, 50))
    assert all(isinstance(tap, tuple) is has_token for tap in taps)
    padded = [side + -side % backbone.stride for side in (75, 50)]
    assert first(taps[0]).shape[-2:] == (padded[0] // stride, padded[1] // stride)
    assert tuple(first(tap).shape[1] for tap in taps) == backbone.channels
    neck = neck_for(backbone)
    maps = neck(taps)
    factor = 8 if stride > 4 else 2
    grid = first(taps[0]).shape[-2:]  # odd grids are rounded up
    assert tuple(maps[0].shape[-2:]) == tuple((side + side % 2) * factor for side in grid)
    sum(one.square().sum() for one in maps).backward()
    for part in (backbone, neck):
        assert [name for name, parameter in part.named_parameters() if parameter.grad is None] == []


def test_taps_equal_the_own_vit_with_the_same_weights(tmp_path) -> None:
    from dpt.checkpoints import load_backbone

    theirs = randomised(build('vit_base_patch16_224', pos_embed_resize='bicubic'))
    state = {key.removeprefix('model.'): value for key, value in theirs.state_dict().items()}
    torch.save(state, tmp_path / 'vit.pth')
    ours = VisionTransformer(32, 16, embed_dims=24, num_layers=4, num_heads=2, **ALL).eval()
    load_backbone(ours, tmp_path / 'vit.pth')
    for size in ((32, 32), (75, 50)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            for expected, tap in zip(ours(image), theirs(image), strict=True):
                torch.testing.assert_close(tap, expected, rtol=1e-5, atol=1e-5)


def test_class_token_can_be_left_out() -> None:
    taps = build('vit_base_patch16_224', output_cls_token=False)(torch.randn(1, 3, 32, 48))
    assert [tuple(tap.shape) for tap in taps] == [(1, 24, 2, 3)] * 4


def test_position_embedding_is_resized_as_its_source_does() -> None:
    plain = 'vit_base_patch14_dinov2'
    arguments = dict(**ALL, img_size=28, model_args=VIT)
    models = {mode: TimmBackbone(plain, **arguments, pos_embed_resize=mode) for mode in ('timm', 'bicubic')}
    models['dinov2'] = TimmBackbone(plain, **arguments)
    assert models['dinov2'].pos_embed_resize == 'dinov2'
    assert build('vit_base_patch14_reg4_dinov2').pos_embed_resize == 'timm'
    for model in models.values():
        randomised(model).load_state_dict(models['timm'].state_dict())
    native, other = torch.randn(1, 3, 28, 28), torch.randn(1, 3, 42, 70)
    with torch.no_grad():
        at_native = [model(native)[0][0] for model in models.values()]
        elsewhere = [model(other)[0][0] for model in models.values()]
    assert torch.equal(at_native[0], at_native[1])
    assert torch.equal(at_native[0], at_native[2])
    assert len({round(one.sum().item(), 3) for one in elsewhere}) >= 2
    # The original code of DINOv2 (vision_transformer.py, interpolate_pos_encoding, offset 0.1).
    position = models['dinov2'].model.pos_embed[:, 1:].reshape(1, 2, 2, 24).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(position, scale_factor=(3.1 / 2, 5.1 / 2), mode='bicubic')
    patches = models['dinov2'].model.patch_embed.proj(other)
    embedded = models['dinov2'].model._pos_embed(patches.permute(0, 2, 3, 1))
    torch.testing.assert_close(embedded[:, 1:], (patches + expected).flatten(2).transpose(1, 2))


def test_copies_use_their_own_position_embedding() -> None:
    original = randomised(TimmBackbone('vit_base_patch14_dinov2', **ALL, img_size=28, model_args=VIT))
    twin = copy.deepcopy(original)
    image = torch.randn(1, 3, 42, 28)
    nn.init.zeros_(original.model.pos_embed)
    with torch.no_grad():
        assert not torch.equal(original(image)[0][0], twin(image)[0][0])


@pytest.mark.parametrize('name', ['vit_base_patch14_reg4_dinov2', 'convnext_tiny'])
def test_gradient_checkpointing_changes_nothing(name: str) -> None:
    image, results = torch.randn(1, 3, 64, 42), []
    for with_cp in (False, True):
        backbone = build(name, with_cp=with_cp).train()
        loss = sum(first(tap).square().sum() for tap in backbone(image))
        loss.backward()
        results.append([loss, *(parameter.grad for parameter in backbone.parameters())])
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@pytest.mark.parametrize('with_cp', [False, True])
def test_frozen_layers_stay_in_evaluation_mode(with_cp: bool) -> None:
    backbone = build('vit_base_patch16_224', frozen_stages=2, drop_path_rate=0.5, with_cp=with_cp).train()
    model = backbone.model
    trained = {key.split('.')[2] for key, one in backbone.named_parameters() if one.requires_grad}
    assert trained == {'2', '3'}
    assert [block.training for block in model.blocks] == [False, False, True, True]
    assert not model.patch_embed.training
    taps = backbone(torch.randn(2, 3, 32, 32))
    assert [tap[0].requires_grad for tap in taps] == [False, False, True, True]
    taps[-1][0].sum().backward()
    grads = [parameter.grad is not None for parameter in model.blocks[2].parameters()]
    assert all(grads)


def test_frozen_stages_of_a_pyramid_keep_their_batch_statistics() -> None:
    backbone = build('resnet50', frozen_stages=1).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64))
    after = backbone.state_dict()
    changed = {key.split('.')[1] for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {'layer2', 'layer3', 'layer4'}
    assert not any(one.requires_grad for one in backbone.model.layer1.parameters())


def test_stochastic_depth_acts_in_training_only() -> None:
    backbone = build('vit_base_patch16_224', drop_path_rate=0.9).train()
    image = torch.randn(4, 3, 32, 32)
    assert not torch.equal(backbone(image)[-1][0], backbone(image)[-1][0])
    backbone.eval()
    assert torch.equal(backbone(image)[-1][0], backbone(image)[-1][0])


def test_models_for_one_size_say_which() -> None:
    beit = TimmBackbone('beitv2_base_patch16_224', **ALL, img_size=32, model_args=VIT)
    assert beit(torch.randn(1, 3, 32, 32))[0][0].shape == (1, 24, 2, 2)
    with pytest.raises(ValueError, match=r'48x32: set model.backbone.img_size=\(48, 32\)'):
        beit(torch.randn(1, 3, 48, 32))


@pytest.mark.parametrize(
    ('name', 'changes', 'words'),
    [
        ('vit_base_patch16_225', {}, 'not a model of timm'),
        ('vit_base_patch16_224', dict(model_args=dict(embed_dims=24)), 'embed_dims'),
        ('vit_base_patch16_224', dict(model_args=dict(pretrained=True)), 'init_cfg'),
        ('vit_base_patch16_224', dict(out_indices=(2, 5, 8, 11)), 'from 0 to 3'),
        ('vit_base_patch16_224', dict(frozen_stages=5), 'from -1 to 4'),
        ('vit_base_patch16_224', dict(pos_embed_resize='bilinear'), 'pos_embed_resize'),
        ('convnext_tiny', dict(pos_embed_resize='dinov2'), 'pos_embed_resize'),
        ('convnext_tiny', dict(norm_taps=True), 'norm_taps'),
        ('eva02_base_patch14_224', dict(norm_taps=True), 'norm_taps=True .* without a final norm'),
        ('convnext_tiny', dict(output_cls_token=True), 'class token'),
    ],
)
def test_wrong_arguments_are_errors(name: str, changes: dict, words: str) -> None:
    arguments = {**FAMILIES.get(name, ({}, None))[0], **changes}
    with pytest.raises(ValueError, match=words):
        TimmBackbone(name, **arguments)


@pytest.mark.parametrize(
    ('hidden', 'words'),
    [
        ('timm', "needs timm: pip install 'dense-prediction-transformers[foundation]'"),
        ('torchvision', f'torchvision that fits torch {torch.__version__}'),
    ],
)
def test_missing_packages_are_named_in_one_line(hidden: str, words: str, monkeypatch) -> None:
    import dpt.models.backbones.timm as module

    if hidden == 'timm':
        monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    else:
        for name in [name for name in sys.modules if name.partition('.')[0] == 'timm']:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, 'torchvision', None)
    with pytest.raises(ImportError) as caught:
        module.TimmBackbone('vit_base_patch16_224')
    assert words in str(caught.value)
    assert 'pip install' in str(caught.value)
    assert '\n' not in str(caught.value)
