"""VisionTransformer and HybridVisionTransformer against timm, and their options."""

import functools
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import StdConv2dSame
from timm.layers import pad_same as timm_pad_same
from timm.models.vision_transformer_hybrid import HybridEmbed

from dpt.checkpoints import convert
from dpt.checkpoints.formats import TIMM_VIT
from dpt.models.backbones import HybridVisionTransformer, VisionTransformer
from dpt.models.backbones.resnet_stem import pad_same
from dpt.models.layers import DropPath

IMG_SIZES = ((128,), (128, 128, 128), 128.0, 0, '128')
TINY = dict(img_size=32, patch_size=8, embed_dims=24, num_layers=4, num_heads=3, out_indices=(0, 1, 2, 3))
STEM = dict(stem_channels=32, stage_channels=(128, 256, 512), stage_depths=(1, 2, 1))
HYBRID = dict(img_size=64, embed_dims=24, num_layers=4, num_heads=3, out_indices=(1, 3), **STEM)
both = pytest.mark.parametrize(
    ('kind', 'tiny'), [(VisionTransformer, TINY), (HybridVisionTransformer, HYBRID)], ids=['vit', 'hybrid']
)


def timm_vit(**arguments) -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        **{**dict(patch_size=8, img_size=32, embed_dim=24, depth=4, num_heads=3, num_classes=2), **arguments}
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize(('layer_scale', 'norm'), [(None, False), (0.1, False), (None, True)])
def test_taps_equal_timm(layer_scale: float | None, norm: bool) -> None:
    theirs = timm_vit(init_values=layer_scale)
    ours = VisionTransformer(**TINY, layer_scale_init=layer_scale, norm_taps=norm).eval()
    state_dict, _ = convert(theirs.state_dict(), TIMM_VIT)
    final_norm = () if norm else ('ln1.weight', 'ln1.bias')
    ours.load_state_dict({key: value for key, value in state_dict.items() if key not in final_norm})
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs.get_intermediate_layers(
            image, n=[0, 1, 2, 3], reshape=True, return_prefix_tokens=True, norm=norm
        )
        taps = ours(image)
    pairs = [(feature_map, prefix[:, 0]) for feature_map, prefix in expected]
    torch.testing.assert_close(list(taps), pairs, rtol=1e-4, atol=1e-5)


def test_hybrid_taps_equal_timm_with_weights_from_timm_file(tmp_path: Path) -> None:
    stem = timm.models.resnetv2.ResNetV2(
        layers=STEM['stage_depths'],
        channels=STEM['stage_channels'],
        num_classes=0,
        global_pool='',
        preact=False,
        stem_type='same',
        stem_chs=STEM['stem_channels'],
        conv_layer=functools.partial(StdConv2dSame, eps=1e-8),  # added to the variance
    )
    embed = functools.partial(HybridEmbed, backbone=stem)
    theirs = timm_vit(img_size=64, patch_size=1, embed_layer=embed)  # a small vit_base_r50_s16_384
    torch.save(theirs.state_dict(), tmp_path / 'timm.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'timm.pth'))
    ours = HybridVisionTransformer(**HYBRID, weight_eps=0.0, init_cfg=init_cfg).eval()
    ours.init_weights()
    maps = []
    for stage in theirs.patch_embed.backbone.stages[:2]:
        stage.register_forward_hook(lambda *call: maps.append(call[-1]))
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        layers = theirs.get_intermediate_layers(
            image, n=[1, 3], reshape=True, return_prefix_tokens=True, norm=False
        )
        taps = ours(image)
    pairs = [(feature_map, prefix[:, 0]) for feature_map, prefix in layers]
    torch.testing.assert_close(list(taps), [*maps, *pairs], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('kernel_size', 'stride'), [(7, 2), (3, 2), (3, 1), (1, 2)])
@pytest.mark.parametrize('size', [(7, 10), (8, 9), (16, 16)])
def test_padding_equals_timm(kernel_size: int, stride: int, size: tuple[int, int]) -> None:
    image = torch.randn(1, 2, *size)
    expected = timm_pad_same(image, [kernel_size] * 2, [stride] * 2, value=3.0)
    assert torch.equal(pad_same(image, kernel_size, stride, value=3.0), expected)


def test_odd_sizes_round_up_to_whole_tokens() -> None:
    maps = VisionTransformer(**TINY, output_cls_token=False)(torch.randn(1, 3, 41, 80))
    assert [tuple(x.shape) for x in maps] == [(1, 24, 6, 10)] * 4
    fine, coarse, *pairs = HybridVisionTransformer(**HYBRID)(torch.randn(2, 3, 50, 81))
    assert (fine.shape, coarse.shape) == ((2, 128, 16, 24), (2, 256, 8, 12))
    assert [tuple(x.shape) for pair in pairs for x in pair] == [(2, 24, 4, 6), (2, 24)] * 2


def test_final_norm_applies_to_last_tap_only() -> None:
    plain, normed = VisionTransformer(**TINY).eval(), VisionTransformer(**TINY, final_norm=True).eval()
    normed.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(1, 3, 32, 32)
    for i, ((one, _), (other, _)) in enumerate(zip(plain(image), normed(image), strict=True)):
        assert torch.equal(one, other) is (i < 3)


@both
def test_gradient_checkpointing_keeps_less_and_equal_gradients(kind: type, tiny: dict) -> None:
    gradients, kept = [], []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model, saved = kind(**tiny, with_cp=with_cp).train(), []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, saved=saved: saved.append(x) or x, lambda x: x
        ):
            taps = model(torch.ones(1, 3, 32, 32))
            loss = sum((tap[0] if isinstance(tap, tuple) else tap).square().sum() for tap in taps)
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        kept.append(sum(x.nbytes for x in saved))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)
    assert kept[1] < 0.5 * kept[0]


@both
def test_frozen_stages_do_not_train(kind: type, tiny: dict) -> None:
    model = kind(**tiny, frozen_stages=2, drop_rate=0.5).train()
    model(torch.randn(1, 3, 32, 32))[-1][0].sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {'.'.join(name.split('.')[:2]) for name in trained} == {'layers.2', 'layers.3'}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not model.layers[1].training
    assert model.layers[2].training
    assert not any(stage.training for stage in getattr(model, 'stages', ()))


def test_every_trained_parameter_has_gradient() -> None:
    model = VisionTransformer(**{**TINY, 'out_indices': (0, 1)}, final_norm=True).train()
    model(torch.randn(1, 3, 32, 32))[-1][0].sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert not model.layers[2].ln1.weight.requires_grad  # behind the last tap


def test_initialisation_of_vit_and_stem() -> None:
    torch.manual_seed(0)
    init_cfg = dict(type='Constant', layer='LayerNorm', val=2.0)  # loads no checkpoint: the defaults hold
    model = HybridVisionTransformer(**HYBRID, init_cfg=init_cfg)
    model.init_weights()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    assert (model.layers[0].ln1.weight == 2).all()
    weight = model.stages[2].blocks[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (weight.shape[0] * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize('option', [dict(drop_path_rate=0.5), dict(drop_rate=0.5), dict(attn_drop_rate=0.5)])
def test_randomness_is_for_training_only(option: dict) -> None:
    model = VisionTransformer(**TINY, **option)
    image = torch.randn(4, 3, 32, 32)
    for training in (True, False):
        model.train(training)
        assert torch.equal(model(image)[-1][0], model(image)[-1][0]) is not training


def test_drop_path_keeps_the_mean_and_drops_whole_samples() -> None:
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert set(out.flatten(1).std(dim=1).tolist()) == {0.0}
    assert sorted(set(out[:, 0, 0].tolist())) == pytest.approx([0, 4 / 3])


@pytest.mark.parametrize(
    ('kind', 'arguments', 'message'),
    [
        (VisionTransformer, dict(TINY, out_indices=(0, 4)), 'out_indices'),
        (VisionTransformer, dict(TINY, out_indices=()), 'out_indices'),
        (VisionTransformer, dict(TINY, num_heads=5), 'num_heads'),
        (VisionTransformer, dict(TINY, interpolate_mode='nearest'), 'interpolate_mode'),
        (VisionTransformer, dict(TINY, frozen_stages=5), 'frozen_stages'),
        (VisionTransformer, dict(TINY, drop_path_rate=1.0), 'drop_prob'),
        (VisionTransformer, dict(TINY, img_size=4), 'img_size=4 must be at least patch_size=8'),
        *(
            (VisionTransformer, dict(TINY, img_size=size), 'img_size=.* must be a positive integer or')
            for size in IMG_SIZES
        ),
        (HybridVisionTransformer, dict(HYBRID, patch_size=16), 'no patch_size'),
        (HybridVisionTransformer, dict(HYBRID, stage_channels=(128, 256)), 'stage_channels'),
        (HybridVisionTransformer, dict(HYBRID, stage_depths=(1, 0, 1)), 'stage_depths'),
        (HybridVisionTransformer, dict(HYBRID, stem_channels=24), '24 channels'),
    ],
)
def test_wrong_arguments_are_named(kind: type, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
