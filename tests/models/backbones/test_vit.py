"""VisionTransformer against timm, and its options."""

import pytest
import timm
import torch

from dpt.checkpoints import convert
from dpt.checkpoints.formats import TIMM_VIT
from dpt.models.backbones import VisionTransformer
from dpt.models.layers import DropPath

IMG_SIZES = ((128,), (128, 128, 128), 128.0, 0, '128')
TINY = dict(img_size=32, patch_size=8, embed_dims=24, num_layers=4, num_heads=3, out_indices=(0, 1, 2, 3))


def timm_vit(**arguments) -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=3, num_classes=0, **arguments
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
        for (feature_map, cls_token), (their_map, their_prefix) in zip(ours(image), expected, strict=True):
            torch.testing.assert_close(feature_map, their_map, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(cls_token, their_prefix[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
def test_other_sizes_resize_position_embedding(mode: str) -> None:
    model = VisionTransformer(**TINY, interpolate_mode=mode)
    model.init_weights()
    shape = model.pos_embed.shape
    maps = model(torch.randn(1, 3, 41, 80))
    assert [tuple(feature_map.shape) for feature_map, _ in maps] == [(1, 24, 6, 10)] * 4
    assert model.pos_embed.shape == shape


def test_interpolation_matters_off_native_grid_only() -> None:
    models = [VisionTransformer(**TINY, interpolate_mode=mode).eval() for mode in ('bicubic', 'bilinear')]
    models[0].init_weights()
    models[1].load_state_dict(models[0].state_dict())
    for size, equal in (((32, 32), True), ((64, 48), False)):
        image = torch.randn(1, 3, *size)
        assert torch.equal(models[0](image)[-1][0], models[1](image)[-1][0]) is equal


def test_patch_bias_changes_taps_unless_zero() -> None:
    published, dropped = (VisionTransformer(**TINY, patch_bias=bias).eval() for bias in (True, False))
    published.init_weights()
    torch.nn.init.normal_(published.patch_embed.projection.bias, std=0.2)
    key = 'patch_embed.projection.bias'
    dropped.load_state_dict({name: value for name, value in published.state_dict().items() if name != key})
    image = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(published(image)[-1][0], dropped(image)[-1][0], rtol=1e-2)
    torch.nn.init.zeros_(published.patch_embed.projection.bias)
    torch.testing.assert_close(published(image)[-1][0], dropped(image)[-1][0])


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = VisionTransformer(**TINY, with_cp=with_cp).train()
        model(torch.ones(1, 3, 32, 32))[-1][0].square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_frozen_stages_do_not_train() -> None:
    model = VisionTransformer(**TINY, frozen_stages=2, drop_rate=0.5).train()
    model(torch.randn(1, 3, 32, 32))[-1][0].sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name.split('.')[1] for name in trained} == {'2', '3'}
    assert not model.layers[1].training
    assert model.layers[2].training


def test_init_cfg_without_checkpoint_keeps_default_initialisation() -> None:
    model = VisionTransformer(**TINY, init_cfg=dict(type='Constant', layer='LayerNorm', val=2.0))
    model.init_weights()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.2)
    assert (model.layers[0].ln1.weight == 2).all()


@pytest.mark.parametrize('option', [dict(drop_path_rate=0.5), dict(drop_rate=0.5), dict(attn_drop_rate=0.5)])
def test_randomness_is_for_training_only(option: dict) -> None:
    model = VisionTransformer(**TINY, **option)
    image = torch.randn(4, 3, 32, 32)
    model.train()
    assert not torch.equal(model(image)[-1][0], model(image)[-1][0])
    model.eval()
    assert torch.equal(model(image)[-1][0], model(image)[-1][0])


def test_drop_path_keeps_the_mean_and_drops_whole_samples() -> None:
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert set(out.flatten(1).std(dim=1).tolist()) == {0.0}
    assert sorted(set(out[:, 0, 0].tolist())) == pytest.approx([0, 4 / 3])


def test_final_norm_applies_to_last_tap_only() -> None:
    plain, normed = VisionTransformer(**TINY).eval(), VisionTransformer(**TINY, final_norm=True).eval()
    normed.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(1, 3, 32, 32)
    for i, ((one, _), (other, _)) in enumerate(zip(plain(image), normed(image), strict=True)):
        assert torch.equal(one, other) is (i < 3)


def test_maps_alone_without_the_class_token() -> None:
    maps = VisionTransformer(**TINY, output_cls_token=False)(torch.randn(1, 3, 32, 32))
    assert maps[0].shape == (1, 24, 4, 4)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(out_indices=(0, 4)), 'out_indices'),
        (dict(out_indices=()), 'out_indices'),
        (dict(num_heads=5), 'num_heads'),
        (dict(interpolate_mode='nearest'), 'interpolate_mode'),
        (dict(frozen_stages=5), 'frozen_stages'),
        (dict(drop_path_rate=1.0), 'drop_prob'),
        *((dict(img_size=size), 'img_size=.* must be a positive integer or') for size in IMG_SIZES),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VisionTransformer(**{**TINY, **arguments})


def test_every_trained_parameter_has_gradient() -> None:
    model = VisionTransformer(**{**TINY, 'out_indices': (0, 1)}, final_norm=True).train()
    model(torch.randn(1, 3, 32, 32))[-1][0].sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert not model.layers[2].ln1.weight.requires_grad  # behind the last tap
