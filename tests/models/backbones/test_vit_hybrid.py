"""HybridVisionTransformer: taps against timm, and its options; values: test_isl_reference.py."""

import functools
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import StdConv2dSame
from timm.layers import pad_same as timm_pad_same
from timm.models.vision_transformer_hybrid import HybridEmbed

from dpt.models.backbones import HybridVisionTransformer
from dpt.models.backbones.resnet_stem import WSConv2d, pad_same

STEM = dict(stem_channels=32, stage_channels=(128, 256, 512), stage_depths=(1, 2, 1))
TINY = dict(img_size=64, embed_dims=24, num_layers=4, num_heads=3, out_indices=(1, 3), **STEM)


def timm_hybrid() -> torch.nn.Module:
    """A hybrid as timm's ``vit_base_r50_s16_384``, small and with random weights."""
    torch.manual_seed(0)
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
    model = timm.models.VisionTransformer(
        img_size=64,
        patch_size=1,
        embed_layer=functools.partial(HybridEmbed, backbone=stem),
        embed_dim=24,
        depth=4,
        num_heads=3,
        num_classes=2,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def test_taps_equal_timm_with_weights_from_timm_file(tmp_path: Path) -> None:
    theirs = timm_hybrid()
    torch.save(theirs.state_dict(), tmp_path / 'timm.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'timm.pth'))
    ours = HybridVisionTransformer(**TINY, weight_eps=0.0, init_cfg=init_cfg).eval()
    ours.init_weights()
    maps = []
    for stage in theirs.patch_embed.backbone.stages[:2]:
        stage.register_forward_hook(lambda *call: maps.append(call[-1]))
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        layers = theirs.get_intermediate_layers(
            image, n=[1, 3], reshape=True, return_prefix_tokens=True, norm=False
        )
        fine, coarse, *pairs = ours(image)
    torch.testing.assert_close([fine, coarse], maps, rtol=1e-4, atol=1e-4)
    for (feature_map, cls_token), (their_map, their_prefix) in zip(pairs, layers, strict=True):
        torch.testing.assert_close(feature_map, their_map, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(cls_token, their_prefix[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('kernel_size', 'stride'), [(7, 2), (3, 2), (3, 1), (1, 2)])
@pytest.mark.parametrize('size', [(7, 10), (8, 9), (16, 16)])
def test_padding_equals_timm(kernel_size: int, stride: int, size: tuple[int, int]) -> None:
    image = torch.randn(1, 2, *size)
    padded = pad_same(image, kernel_size, stride, value=3.0)
    expected = timm_pad_same(image, [kernel_size] * 2, [stride] * 2, value=3.0)
    assert torch.equal(padded, expected)


@pytest.mark.parametrize('size', [(64, 64), (50, 81)])
def test_shapes_of_taps(size: tuple[int, int]) -> None:
    fine, coarse, *pairs = HybridVisionTransformer(**TINY)(torch.randn(2, 3, *size))
    rows, columns = -(-size[0] // 16), -(-size[1] // 16)
    assert fine.shape == (2, 128, 4 * rows, 4 * columns)
    assert coarse.shape == (2, 256, 2 * rows, 2 * columns)
    assert [tuple(x.shape) for pair in pairs for x in pair] == [(2, 24, rows, columns), (2, 24)] * 2


def test_frozen_stages_freeze_the_stem_with_the_embeddings() -> None:
    model = HybridVisionTransformer(**TINY, frozen_stages=2).train()
    model(torch.randn(1, 3, 32, 32))[-1][0].sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {'.'.join(name.split('.')[:2]) for name in trained} == {'layers.2', 'layers.3'}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not model.stages[0].training


def test_gradient_checkpointing_changes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients, calls = [], []
    forward = WSConv2d.forward
    monkeypatch.setattr(WSConv2d, 'forward', lambda self, x: calls.append(self) or forward(self, x))
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = HybridVisionTransformer(**TINY, with_cp=with_cp).train()
        taps = model(torch.ones(1, 3, 32, 32))
        (taps[0].square().sum() + taps[-1][0].square().sum()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)
    convolutions = 3 * 4 + 3  # of the blocks: those of the branches and of the shortcuts
    assert len(calls) == 2 * (convolutions + 1) + convolutions  # the blocks run once more


def test_initialisation_of_vit_and_stem() -> None:
    torch.manual_seed(0)
    model = HybridVisionTransformer(**TINY)
    model.init_weights()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    weight = model.stages[2].blocks[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (weight.shape[0] * 9)) ** 0.5, rel=0.05)


def test_pretrained_weights_of_whole_model_load(tmp_path: Path) -> None:
    trained = HybridVisionTransformer(**TINY).state_dict()
    content = {f'backbone.{key}': value for key, value in trained.items()}
    torch.save({**content, 'neck.convs.0.conv.weight': torch.ones(1)}, tmp_path / 'model.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'model.pth'))
    model = HybridVisionTransformer(**TINY, init_cfg=init_cfg)
    model.init_weights()
    assert all(torch.equal(value, trained[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(patch_size=16), 'no patch_size'),
        (dict(stage_channels=(128, 256)), 'stage_channels'),
        (dict(stage_depths=(1, 0, 1)), 'stage_depths'),
        (dict(stem_channels=24), '24 channels'),
        (dict(out_indices=(3, 4)), 'out_indices'),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridVisionTransformer(**{**TINY, **arguments})
