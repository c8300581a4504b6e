"""What a user adds to the model, overrides or replaces is what runs; what does not fit is one line."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import Tensor, nn

import dpt.models  # noqa: F401  (registration)
from dpt.export import ExportedSegmentor
from dpt.models import EncoderDecoder, SegDataPreProcessor, SegTTAModel
from dpt.models.backbones import HybridVisionTransformer, VisionTransformer
from dpt.models.losses import CrossEntropyLoss
from dpt.models.necks import DPTNeck
from dpt.registry import MODELS
from dpt.structures import SegDataSample

VIT = dict(embed_dims=24, num_layers=4, num_heads=3)
PREPROCESSOR = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3)
STEM = dict(stem_channels=32, stage_channels=(128, 128, 128), stage_depths=(1, 1, 2))


def build(kind: str = 'vit', **arguments: object) -> EncoderDecoder:
    torch.manual_seed(0)
    if kind == 'vit':
        backbone = dict(VIT, type='VisionTransformer', img_size=32, patch_size=8, out_indices=(0, 1, 2, 3))
        neck = dict(type='DPTNeck', in_channels=24, channels=8, post_process_channels=(4, 6, 8, 12))
    else:
        backbone = dict(VIT, **STEM, type='HybridVisionTransformer', img_size=64, out_indices=(1, 3))
        neck = dict(type='DPTNeck', in_channels=24, channels=8, post_process_channels=(128, 128, 8, 12))
        neck['identity_levels'] = (0, 1)
    model = MODELS.build(
        dict(
            dict(
                type='EncoderDecoder',
                data_preprocessor=PREPROCESSOR,
                backbone=backbone,
                neck=neck,
                decode_head=dict(type='DPTHead', in_channels=8, num_classes=5, dropout_ratio=0.0),
            ),
            **arguments,
        )
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def samples(*sizes: tuple[int, int]) -> list[SegDataSample]:
    return [SegDataSample(gt_sem_seg=PixelData(data=torch.ones(1, *size).long())) for size in sizes]


def labels(model: EncoderDecoder, image: Tensor) -> Tensor:
    with torch.no_grad():
        return model.predict(image)[0].pred_sem_seg.data


@pytest.mark.parametrize('kind', ['vit', 'hybrid'])
def test_every_module_is_called(kind: str) -> None:
    model, called = build(kind), set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    model(torch.randn(1, 3, 64, 64))
    containers = (nn.ModuleList, nn.Identity, CrossEntropyLoss, SegDataPreProcessor)
    expected = {name for name, module in model.named_modules() if not isinstance(module, containers)}
    assert expected <= called


class Negated(EncoderDecoder):
    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        out = super().forward(inputs, data_samples, mode)
        return -out if mode == 'tensor' else out


@pytest.mark.parametrize('test_cfg', [None, dict(mode='slide', crop_size=(32, 32), stride=(16, 16))])
def test_predictions_come_from_an_overridden_forward(test_cfg: dict | None) -> None:
    image = torch.randn(1, 3, 48, 64)
    plain, negated = build(test_cfg=test_cfg), build(test_cfg=test_cfg)
    negated.__class__ = Negated
    with torch.no_grad():
        scores = plain.predict(image, with_logits=True)[0].seg_logits.data
    assert torch.equal(labels(negated, image)[0], scores.argmin(0))


def test_views_without_sizes_have_those_of_the_input() -> None:
    model = build()
    image = torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8)
    batch = dict(inputs=[[image]], data_samples=[[SegDataSample()]])
    predicted = SegTTAModel(module=model).eval().test_step(batch)[0].pred_sem_seg.data
    assert torch.equal(predicted, labels(model, (image[None].float() - 127.5) / 127.5))


@pytest.mark.parametrize('kind', ['vit', 'hybrid'])
@pytest.mark.parametrize(
    ('traced', 'other'), [((48, 80), (64, 50)), ((32, 32), (48, 80)), ((64, 64), (48, 80))]
)
def test_traces_take_other_sizes(kind: str, traced: tuple, other: tuple) -> None:
    model, image = build(kind), torch.randn(2, 3, *other)
    trace = torch.jit.trace(model, torch.randn(1, 3, *traced), check_trace=False)
    with torch.no_grad():
        torch.testing.assert_close(trace(image), model(image))


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
    change(model.eval())
    model.eval()
    image = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8)
    with torch.no_grad():
        full, half = ExportedSegmentor(model)(image), ExportedSegmentor(model, half=True)(image)
    assert (full - half).abs().max() < 0.02 * full.abs().max()


def test_export_refuses_own_preprocessing() -> None:
    class Cubed(SegDataPreProcessor):
        def forward(self, data: dict, training: bool = False) -> dict:
            return super().forward(data, training)

    model = build(data_preprocessor=Cubed([127.5] * 3, [127.5] * 3))
    with pytest.raises(ValueError, match='Cubed has its own forward'):
        ExportedSegmentor(model)


@pytest.mark.parametrize('kind', [VisionTransformer, HybridVisionTransformer])
def test_adapters_train_beside_frozen_layers(kind: type) -> None:
    class Adapted(kind):
        def __init__(self, **arguments) -> None:
            super().__init__(**arguments)
            self.adapter = nn.Linear(24, 24, bias=False)
            self.layers[0].adapter = nn.Linear(24, 24, bias=False)
            nn.init.zeros_(self.adapter.weight)

    extra = dict(STEM, img_size=64) if kind is HybridVisionTransformer else dict(img_size=32, patch_size=8)
    backbone = Adapted(**VIT, **extra, out_indices=(1, 3), frozen_stages=0)
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
    num_classes = 5

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result

    def forward(self, *_: object) -> object:
        return self.result


@pytest.mark.parametrize('result', [(torch.zeros(1, 5, 8, 8),), torch.zeros(1, 5)])
def test_a_head_that_returns_no_logits_is_named(result: object) -> None:
    model = build(decode_head=Faulty(result))
    image = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match='decode_head must return logits of shape BxKxhxw'):
        model.loss(image, samples((32, 32)))
    with pytest.raises(ValueError, match='decode_head must return logits of shape BxKxhxw'):
        labels(model, image)


@pytest.mark.parametrize('result', [dict(loss=torch.zeros(())), 0.0, torch.zeros(1, 32, 32)])
def test_a_loss_that_is_no_scalar_is_named(result: object) -> None:
    model = build(loss=Faulty(result))
    with pytest.raises(ValueError, match='Faulty must return a scalar tensor'):
        model.loss(torch.zeros(1, 3, 32, 32), samples((32, 32)))


def test_losses_may_be_modules_but_not_absent() -> None:
    model = build(loss=nn.ModuleList([CrossEntropyLoss(), nn.CrossEntropyLoss(ignore_index=255)]))
    losses = model.loss(torch.zeros(1, 3, 32, 32), samples((32, 32)))
    torch.testing.assert_close(losses['decode.loss_ce'], losses['decode.loss_cross_entropy'])
    with pytest.raises(ValueError, match=r'model\.loss is an empty list'):
        build(loss=[])


def test_images_and_labels_must_be_equally_many() -> None:
    model, image = build(), torch.zeros(2, 3, 32, 32)
    with pytest.raises(ValueError, match='got logits of 2 images but labels of 1'):
        model.loss(image, samples((32, 32)))
    with pytest.raises(ValueError, match='2 images, but 1 data samples'):
        model.predict(image, samples((32, 32)))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_class_weights_count_in_float32_in_half_models(dtype: torch.dtype) -> None:
    logits, target = torch.randn(2, 3, 300, 300), torch.randint(0, 3, (2, 300, 300))
    loss = CrossEntropyLoss(class_weight=[1.0, 2.0, 4.0])
    expected = F.cross_entropy(logits.to(dtype).float(), target, torch.tensor([1.0, 2.0, 4.0]))
    torch.testing.assert_close(loss.to(dtype)(logits.to(dtype), target), expected)


def test_masked_classes_give_the_loss_of_torch() -> None:
    logits, target = torch.randn(2, 4, 6, 6), torch.randint(0, 3, (2, 6, 6))
    logits[:, 3] = -math.inf
    logits.requires_grad_()
    loss = CrossEntropyLoss()(logits, target)
    torch.testing.assert_close(loss, F.cross_entropy(logits, target))
    loss.backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    'wrong', [dict(stride=(48, 48))] + [dict(crop_size=size) for size in ((0, 32), (32.0, 32.0), None)]
)
def test_impossible_windows_are_refused_when_built(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r'model\.test_cfg'):
        build(test_cfg=dict(dict(mode='slide', crop_size=(32, 32), stride=(16, 16)), **wrong))


def test_errors_of_parts_keep_their_message() -> None:
    @MODELS.register_module(force=True)
    class ReadsJson(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            json.loads('{')

    with pytest.raises(ValueError, match=r'model\.backbone: Expecting property name'):
        build(backbone=dict(type='ReadsJson'))


def test_images_smaller_than_a_patch_are_refused() -> None:
    with pytest.raises(ValueError, match='img_size=4 must be at least patch_size=8'):
        VisionTransformer(4, 8, **VIT, out_indices=(3,))
