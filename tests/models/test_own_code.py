"""What a user adds to the model, overrides or replaces is what runs; what does not fit is one line."""

import json

import pytest
import torch
import torch.nn.functional as F
from tiny_models import BACKBONES, CLASSES, WINDOWS, build, labels, sample
from torch import Tensor, nn

from dpt.export import ExportedModel
from dpt.models import EncoderDecoder, SegDataPreProcessor
from dpt.models.backbones import HybridVisionTransformer, VisionTransformer
from dpt.models.losses import CrossEntropyLoss
from dpt.models.necks import DPTNeck
from dpt.registry import MODELS

IMAGE, SAMPLE = torch.zeros(1, 3, 32, 32), sample((32, 32))


@pytest.mark.parametrize('kind', ['vit', 'hybrid'])
def test_every_module_is_called_and_can_be_hooked(kind: str) -> None:
    model, called, backward = build(kind).train(), set(), set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
        module.register_full_backward_hook(lambda *_, name=name: backward.add(name))
    model(torch.randn(2, 3, 64, 64, requires_grad=True)).sum().backward()
    containers = (nn.ModuleList, nn.Identity, CrossEntropyLoss, SegDataPreProcessor)
    expected = {name for name, module in model.named_modules() if not isinstance(module, containers)}
    assert expected <= called
    assert {'neck.fusion_blocks.3.res_conv_unit1', 'backbone.layers.0.attn'} <= backward


class Negated(EncoderDecoder):
    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        out = super().forward(inputs, data_samples, mode)
        return -out if mode == 'tensor' else out


@pytest.mark.parametrize('test_cfg', [None, WINDOWS])
def test_predictions_come_from_an_overridden_forward(test_cfg: dict | None) -> None:
    image = torch.randn(1, 3, 48, 64)
    plain, negated = build(test_cfg=test_cfg), build(test_cfg=test_cfg)
    negated.__class__ = Negated
    with torch.no_grad():
        scores = plain.predict(image, with_logits=True)[0].seg_logits.data
    assert torch.equal(labels(negated, image), scores.argmin(0))


class Scaled(EncoderDecoder):
    def extract_feat(self, inputs: Tensor) -> tuple:
        return tuple(3 * x for x in super().extract_feat(inputs))


class TapsAlone(nn.Module):
    def forward(self, taps: tuple) -> tuple:
        return tuple(F.interpolate(tap[0][:, :8], scale_factor=4) for tap in taps)


@pytest.mark.parametrize('own', [Scaled, TapsAlone])
def test_own_features_train_and_predict(own: type) -> None:
    model, inputs, samples = build(), torch.randn(1, 3, 32, 48), [sample((32, 48))]
    plain = model.loss(inputs, samples)['decode.loss_ce']
    if own is Scaled:
        model.__class__ = own
    else:
        model.neck = own()
    assert model.loss(inputs, samples)['decode.loss_ce'] != plain
    logits = F.interpolate(model(inputs), size=(32, 48), mode='bilinear', align_corners=False)
    assert torch.equal(labels(model, inputs), logits[0].argmax(0))


def own_norm(model: EncoderDecoder) -> None:
    for block in model.neck.fusion_blocks:
        block.res_conv_unit2.conv1.bn = nn.GroupNorm(2, 8)


def spectral(model: EncoderDecoder) -> None:
    nn.utils.parametrizations.spectral_norm(model.decode_head.project.conv)


def large_variance(model: EncoderDecoder) -> None:
    norm = nn.BatchNorm2d(8)
    norm.running_var.fill_(90000)  # infinite in float16
    norm.weight.data.fill_(300)
    model.decode_head.project = nn.Sequential(model.decode_head.project, norm)


@pytest.mark.parametrize('change', [own_norm, spectral, large_variance])
def test_half_precision_exports_what_users_change(change) -> None:
    model = build()
    change(model)
    model.eval()
    image = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8)
    with torch.no_grad():
        full, half = ExportedModel(model)(image), ExportedModel(model, half=True)(image)
    assert (full - half).abs().max() < 0.02 * full.abs().max()


def test_export_refuses_own_preprocessing() -> None:
    class Cubed(SegDataPreProcessor):
        def forward(self, data: dict, training: bool = False) -> dict:
            return super().forward(data, training)

    model = build(data_preprocessor=Cubed([127.5] * 3, [127.5] * 3))
    with pytest.raises(ValueError, match='Cubed has its own forward'):
        ExportedModel(model)


@pytest.mark.parametrize('kind', [VisionTransformer, HybridVisionTransformer])
def test_adapters_train_beside_frozen_layers(kind: type) -> None:
    class Adapted(kind):
        def __init__(self, **arguments) -> None:
            super().__init__(**arguments)
            self.adapter = nn.Linear(24, 24, bias=False)
            self.layers[0].adapter = nn.Linear(24, 24, bias=False)
            nn.init.zeros_(self.adapter.weight)

    arguments = dict(BACKBONES['hybrid' if kind is HybridVisionTransformer else 'vit'], frozen_stages=0)
    del arguments['type']
    backbone = Adapted(**arguments)
    backbone.init_weights()
    backbone.train()
    assert backbone.adapter.training
    assert backbone.adapter.weight.requires_grad
    assert not backbone.adapter.weight.any()
    assert not backbone.patch_embed.training
    assert not backbone.pos_embed.requires_grad
    assert backbone.layers[0].training


def test_reassembling_can_be_replaced() -> None:
    neck = DPTNeck(24, 8, post_process_channels=(8, 8, 8, 8))
    neck.reassemble_blocks = nn.Identity()
    maps = neck([torch.randn(1, 8, 2**i, 2**i) for i in (5, 4, 3, 2)])
    assert [tuple(one.shape[-2:]) for one in maps] == [(64, 64), (32, 32), (16, 16), (8, 8)]


class Faulty(nn.Module):
    num_classes = CLASSES

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result

    def forward(self, *_: object) -> object:
        return self.result


@pytest.mark.parametrize('result', [(torch.zeros(1, 5, 8, 8),), torch.zeros(1, 5)])
def test_a_head_that_returns_no_logits_is_named(result: object) -> None:
    model = build(decode_head=Faulty(result))
    for use in (lambda: model.loss(IMAGE, [SAMPLE]), lambda: labels(model, IMAGE)):
        with pytest.raises(ValueError, match='decode_head must return logits of shape BxKxhxw'):
            use()


@pytest.mark.parametrize('result', [dict(loss=torch.zeros(())), 0.0, torch.zeros(1, 32, 32)])
def test_a_loss_that_is_no_scalar_is_named(result: object) -> None:
    with pytest.raises(ValueError, match='Faulty must return a scalar tensor'):
        build(loss=Faulty(result)).loss(IMAGE, [SAMPLE])


class DiceLoss(nn.Module):
    """A loss as users write it, which needs logits at the size of the target."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        share = logits.softmax(1)
        truth = F.one_hot(target.clamp(max=CLASSES - 1), CLASSES).permute(0, 3, 1, 2)
        return 1 - 2 * (share * truth).sum() / (share.sum() + truth.sum())


def test_losses_are_added_each_under_its_name() -> None:
    modules = [CrossEntropyLoss(), nn.CrossEntropyLoss(ignore_index=255), DiceLoss()]
    model, inputs = build(loss=nn.ModuleList(modules)), torch.randn(1, 3, 32, 48)
    losses = model.loss(inputs, [sample((32, 48))])
    assert set(losses) == {
        f'decode.{name}' for name in ('loss_ce', 'loss_cross_entropy', 'loss_dice', 'acc_seg')
    }
    torch.testing.assert_close(losses['decode.loss_ce'], losses['decode.loss_cross_entropy'])
    logits = F.interpolate(model(inputs), size=(32, 48), mode='bilinear', align_corners=False)
    expected = DiceLoss()(logits, torch.zeros(1, 32, 48, dtype=torch.long))
    torch.testing.assert_close(losses['decode.loss_dice'], expected)
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, 2 * losses['decode.loss_ce'] + losses['decode.loss_dice'])


def test_losses_need_different_names_and_one_loss() -> None:
    ce = dict(type='CrossEntropyLoss')
    with pytest.raises(ValueError, match='model.loss: losses share a name'):
        build(loss=[ce, ce])
    with pytest.raises(ValueError, match=r'model\.loss is an empty list'):
        build(loss=[])
    two = build(loss=[ce, dict(ce, loss_name='loss_more', loss_weight=0.5)])
    assert {'decode.loss_ce', 'decode.loss_more'} <= set(two.loss(IMAGE, [SAMPLE]))


def test_errors_of_parts_keep_their_message() -> None:
    @MODELS.register_module(force=True)
    class ReadsJson(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            json.loads('{')

    with pytest.raises(ValueError, match=r'model\.backbone: Expecting property name'):
        build(backbone=dict(type='ReadsJson'))
    with pytest.raises(ValueError, match=r'model\.backbone=None must be a dict'):
        build(backbone=None)
