"""EncoderDecoder and SegTTAModel on a tiny DPT."""

import copy
import io
import math
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from torch._dynamo.testing import CompileCounter

from dpt.models.segmentor import EncoderDecoder
from dpt.registry import MODELS
from dpt.structures import SegDataSample

CLASSES = 5
FLIPPED = {None: (), 'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}  # dimensions


def config(**arguments) -> dict:
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, test_cfg=dict(size_divisor=16)
        ),
        backbone=dict(
            type='VisionTransformer',
            img_size=32,
            patch_size=8,
            embed_dims=24,
            num_layers=4,
            num_heads=3,
            out_indices=(0, 1, 2, 3),
        ),
        neck=dict(type='DPTNeck', in_channels=24, channels=8, post_process_channels=(4, 6, 8, 12)),
        decode_head=dict(type='DPTHead', in_channels=8, num_classes=CLASSES),
        **arguments,
    )


def build(**arguments) -> torch.nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(config(**arguments))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def _void_batch(void: int, **arguments) -> tuple[torch.nn.Module, dict]:
    """A model and a padded training batch whose data set labels the left half ``void``."""
    model = build(**arguments)
    labels = torch.full((1, 24, 30), 2)
    labels[..., :15] = void
    one = SegDataSample(metainfo=dict(img_path='a.jpg', ignore_index=void))
    one.gt_sem_seg = PixelData(data=labels.to(torch.uint8 if void < 256 else torch.int64))
    model.data_preprocessor.train_padding = ((32, 32), None)
    images = torch.randint(0, 256, (3, 24, 30), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    return model, model.data_preprocessor(dict(inputs=[images], data_samples=[one]), training=True)


@pytest.mark.parametrize('void', [5, 7, 65535])
def test_loss_ignores_the_void_label_of_the_data(void: int) -> None:
    model, usual = _void_batch(255)
    expected = model(**usual, mode='loss')
    model, batch = _void_batch(void)
    assert {k: v.item() for k, v in model(**batch, mode='loss').items()} == {
        k: v.item() for k, v in expected.items()
    }


@pytest.mark.parametrize('seg_pad_val', [None, 255])
def test_contradicting_void_labels_raise(seg_pad_val: int | None) -> None:
    stated = {} if seg_pad_val else dict(ignore_index=255)
    model, batch = _void_batch(3, **stated)
    model.data_preprocessor.seg_pad_val = seg_pad_val
    with pytest.raises(ValueError, match=r'differs \(model\..*255, the data set of a\.jpg: 3\)'):
        model(**batch, mode='loss')


def sample(
    size: tuple[int, int], ori_shape: tuple[int, int] | None = None, flip: bool = False
) -> SegDataSample:
    data_sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, *size, dtype=torch.uint8)))
    data_sample.set_metainfo(
        dict(
            img_path='a.jpg',
            img_shape=size,
            ori_shape=ori_shape or size,
            flip=flip,
            flip_direction='horizontal' if flip else None,
        )
    )
    return data_sample


def image(size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)


def test_prediction_does_not_depend_on_batch() -> None:
    model = build()
    sizes = [(32, 32), (32, 32)]
    inputs, samples = [image(s, i) for i, s in enumerate(sizes)], [sample(s) for s in sizes]
    with torch.no_grad():
        together = model.test_step(dict(inputs=inputs, data_samples=copy.deepcopy(samples)))
        for i in range(2):
            alone = model.test_step(
                dict(inputs=inputs[i : i + 1], data_samples=copy.deepcopy(samples[i : i + 1]))
            )
            assert torch.equal(alone[0].pred_sem_seg.data, together[i].pred_sem_seg.data)


def test_slide_equals_whole_if_one_window_covers_input() -> None:
    whole = build()
    slide = build(test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(32, 32)))
    data = dict(inputs=[image((48, 32))], data_samples=[sample((48, 32))])
    with torch.no_grad():
        one = whole.test_step(copy.deepcopy(data))[0].pred_sem_seg.data
        other = slide.test_step(copy.deepcopy(data))[0].pred_sem_seg.data
    assert torch.equal(one, other)


def test_auxiliary_heads_add_a_weighted_loss_in_training_only() -> None:
    model = build(auxiliary_heads=[dict(type='FCNHead', in_channels=8, num_classes=CLASSES, in_index=1)])
    batch = model.data_preprocessor(dict(inputs=[image((32, 32))], data_samples=[sample((32, 32))]), True)
    losses = model(**batch, mode='loss')
    maps = model.extract_feat(batch['inputs'])
    logits = F.interpolate(
        model.auxiliary_heads[0](maps), size=(32, 32), mode='bilinear', align_corners=False
    )
    label = torch.zeros(1, 32, 32, dtype=torch.long)
    expected = 0.2 * F.cross_entropy(logits, label)
    assert losses['aux.loss_ce'].item() == pytest.approx(expected.item(), rel=1e-5)
    assert maps[1].shape[-1] * 2 == maps[0].shape[-1]
    assert 'auxiliary_heads.0.conv_seg.weight' in model.state_dict()


def views(flips: list[bool]) -> dict:
    picture = image((32, 48))
    inputs = [[picture.flip(2) if flip else picture] for flip in flips]
    return dict(inputs=inputs, data_samples=[[sample((32, 48), flip=flip)] for flip in flips])


@pytest.mark.parametrize('direction', FLIPPED)
def test_predictions_equal_argmax_of_whole_logits(direction: str | None) -> None:
    model, data_sample = build(), sample((33, 47), (50, 61))
    data_sample.set_metainfo(dict(flip=direction is not None, flip_direction=direction))
    data = dict(inputs=[image((33, 47))], data_samples=[data_sample])
    with torch.no_grad():
        batch = model.data_preprocessor(copy.deepcopy(data), False)
        assert batch['inputs'].shape[-2:] == (48, 48)
        predicted = model.predict(**copy.deepcopy(batch), with_logits=True)[0]
        logits = F.interpolate(model(batch['inputs']), size=(48, 48), mode='bilinear', align_corners=False)
        logits = logits[..., :33, :47].flip(FLIPPED[direction])
        logits = F.interpolate(logits, size=(50, 61), mode='bilinear', align_corners=False)[0]
        plain = model.test_step(data)[0]
    torch.testing.assert_close(predicted.seg_logits.data, logits, rtol=1e-4, atol=1e-5)
    assert torch.equal(predicted.pred_sem_seg.data[0].long(), logits.argmax(0))
    assert torch.equal(plain.pred_sem_seg.data, predicted.pred_sem_seg.data)
    assert 'seg_logits' not in plain
    assert predicted.pred_sem_seg.data.unique().numel() > 1


@pytest.mark.parametrize('ori_shape', [(81, 90), (29, 31), (60, 140)])
@pytest.mark.parametrize('direction', FLIPPED)
def test_sliding_windows_restore_to_the_original_image(
    direction: str | None, ori_shape: tuple[int, int]
) -> None:
    model = build(test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(16, 24)))
    data_sample = sample((60, 70), ori_shape)
    data_sample.set_metainfo(dict(flip=direction is not None, flip_direction=direction))
    inputs = torch.randn(1, 3, 64, 80)
    total, count = torch.zeros(1, CLASSES, 64, 80), torch.zeros(64, 80)
    with torch.no_grad():
        found = model.predict(inputs, [data_sample], with_logits=True)[0]
        for top in (0, 16, 32):
            for left in (0, 24, 48):
                window = (..., slice(top, top + 32), slice(left, left + 32))
                total[window] += F.interpolate(model(inputs[window]), size=(32, 32), mode='bilinear')
                count[window] += 1
    logits = (total / count)[..., :60, :70].flip(FLIPPED[direction])
    expected = F.interpolate(logits, size=ori_shape, mode='bilinear')[0]
    torch.testing.assert_close(found.seg_logits.data, expected, rtol=1e-4, atol=1e-4)
    assert (found.pred_sem_seg.data[0] != expected.argmax(0)).float().mean() < 0.001


def test_tta_averages_the_softmax_of_its_views() -> None:
    model = build()
    tta = MODELS.build(dict(type='SegTTAModel', module=model)).eval()
    data = views([False, True])
    with torch.no_grad():
        merged = tta.test_step(copy.deepcopy(data))[0].pred_sem_seg.data
        total = torch.zeros(CLASSES, 32, 48)
        for inputs, samples in zip(data['inputs'], data['data_samples'], strict=True):
            x = (inputs[0][None].float() - 127.5) / 127.5
            logits = F.interpolate(model(x), size=(32, 48), mode='bilinear', align_corners=False)[0]
            total += (logits.flip(2) if samples[0].flip else logits).softmax(0)
    assert torch.equal(merged[0].long(), total.argmax(0))
    assert merged.unique().numel() > 1


def test_tta_of_one_view_is_the_plain_prediction() -> None:
    model = build()
    tta = MODELS.build(dict(type='SegTTAModel', module=model)).eval()
    data = views([False])
    with torch.no_grad():
        plain = model.test_step(
            dict(inputs=data['inputs'][0], data_samples=copy.deepcopy(data['data_samples'][0]))
        )
        merged = tta.test_step(copy.deepcopy(data))
    assert torch.equal(plain[0].pred_sem_seg.data, merged[0].pred_sem_seg.data)
    assert merged[0].gt_sem_seg.data.shape == (1, 32, 48)


@pytest.mark.parametrize(
    'test_cfg',
    [
        dict(mode='silde'),
        dict(mode='slide'),
        dict(mode='slide', crop_size=64, stride=(32, 32)),
        dict(mode='whole', crop=(1, 1)),
    ],
)
def test_wrong_test_cfg_raises(test_cfg: dict) -> None:
    with pytest.raises(ValueError, match='test_cfg'):
        MODELS.build(config(test_cfg=test_cfg))


def test_unknown_arguments_raise() -> None:
    with pytest.raises(TypeError):
        MODELS.build(config(losses=dict(type='CrossEntropyLoss')))
    with pytest.raises(ValueError, match='mode'):
        build()(torch.zeros(1, 3, 32, 32), mode='train')


def test_compiled_loss_equals_eager_without_graph_breaks() -> None:
    model = build().train()
    model.decode_head.dropout.p = 0.0
    inputs, label = torch.randn(1, 3, 32, 48), torch.arange(32 * 48).view(1, 32, 48) % CLASSES

    def loss(x: torch.Tensor) -> torch.Tensor:
        return model.loss_decode[0](model(x), label, 255)

    # 'aot_eager' traces as every backend does, but generates no code, which takes minutes.
    parameters = list(model.parameters())
    eager = loss(inputs)
    gradients = torch.autograd.grad(eager, parameters)  # before compiled code gathers statistics in place
    compiled = torch.compile(loss, backend='aot_eager', fullgraph=True)(inputs)
    torch.testing.assert_close(compiled, eager)
    for one, other in zip(torch.autograd.grad(compiled, parameters), gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_losses_compile_once_for_all_images_and_rates() -> None:
    counter = CompileCounter()
    preprocessor = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, size=(48, 48))
    model = MODELS.build(dict(config(), data_preprocessor=preprocessor)).train()
    names = set(model.state_dict())
    model.compile_losses(backend=counter, fullgraph=True)
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='AdamW', lr=1e-3)))
    for step in range(3):
        sizes = [(30 + step, 48), (32, 40 + step)]
        images = [torch.zeros(3, *size, dtype=torch.uint8) for size in sizes]
        samples = [sample(size, flip=bool(step)) for size in sizes]
        log = model.train_step(dict(inputs=images, data_samples=samples), wrapper)
        wrapper.optimizer.param_groups[0]['lr'] /= 2
    assert counter.frame_count == 1
    assert log['loss'] > 0
    assert set(model.state_dict()) == names


def test_gradients_of_inner_parts_can_be_hooked() -> None:
    model, names = build().train(), []
    for name, part in model.named_modules():
        if name.endswith(('res_conv_unit1', 'conv2', 'bn', 'attn', 'conv1')):
            part.register_full_backward_hook(lambda *_, name=name: names.append(name))
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert {'neck.fusion_blocks.3.res_conv_unit1', 'backbone.layers.0.attn'} <= set(names)


class DiceLoss(torch.nn.Module):
    """A loss as users write it, which needs logits at the size of the target."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        share = logits.softmax(1)
        truth = F.one_hot(target.clamp(max=CLASSES - 1), CLASSES).permute(0, 3, 1, 2)
        return 1 - 2 * (share * truth).sum() / (share.sum() + truth.sum())


def test_losses_are_added_each_under_its_name() -> None:
    model = build()
    model.loss_decode.append(DiceLoss())
    inputs, samples = torch.randn(1, 3, 32, 48), [sample((32, 48))]
    losses = model.loss(inputs, samples)
    assert set(losses) == {'decode.loss_ce', 'decode.loss_dice', 'decode.acc_seg'}
    logits = F.interpolate(model(inputs), size=(32, 48), mode='bilinear', align_corners=False)
    expected = DiceLoss()(logits, torch.zeros(1, 32, 48, dtype=torch.long))
    torch.testing.assert_close(losses['decode.loss_dice'], expected)
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['decode.loss_ce'] + losses['decode.loss_dice'])


def test_losses_sharing_a_name_raise() -> None:
    ce = dict(type='CrossEntropyLoss')
    with pytest.raises(ValueError, match='model.loss: losses share a name'):
        MODELS.build(config(loss=[ce, ce]))
    two = MODELS.build(config(loss=[ce, dict(ce, loss_name='loss_more', loss_weight=0.5)]))
    assert {'decode.loss_ce', 'decode.loss_more'} <= set(
        two.loss(torch.zeros(1, 3, 32, 32), [sample((32, 32))])
    )


class ScaledSegmentor(EncoderDecoder):
    """Overrides a public method."""

    def extract_feat(self, inputs: torch.Tensor) -> tuple:
        return tuple(3 * x for x in super().extract_feat(inputs))


def test_overridden_extract_feat_trains_and_predicts() -> None:
    model, inputs, samples = build(), torch.randn(1, 3, 32, 48), [sample((32, 48))]
    plain = model.loss(inputs, samples)['decode.loss_ce']
    model.__class__ = ScaledSegmentor
    assert model.loss(inputs, samples)['decode.loss_ce'] != plain
    logits = F.interpolate(model(inputs), size=(32, 48), mode='bilinear', align_corners=False)
    assert torch.equal(model.predict(inputs, samples)[0].pred_sem_seg.data[0], logits[0].argmax(0))


def test_model_builds_without_default_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    model = MODELS.build(config())
    assert type(model.data_preprocessor).__name__ == 'SegDataPreProcessor'


@pytest.mark.parametrize('gradients', [False, True])
def test_predict_equals_forward_with_batch_norm_in_training(gradients: bool) -> None:
    model, inputs = build(), torch.randn(1, 3, 64, 64)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.train()
    with torch.set_grad_enabled(gradients):
        logits = F.interpolate(model(inputs), size=(64, 64), mode='bilinear', align_corners=False)
        labels = model.predict(inputs)[0].pred_sem_seg.data
    assert torch.equal(labels[0].long(), logits[0].argmax(0))


def test_traced_model_accepts_other_sizes() -> None:
    model = build()
    traced = torch.jit.trace(model, torch.randn(1, 3, 64, 96))
    other = torch.randn(1, 3, 96, 64)
    torch.testing.assert_close(traced(other), model(other), rtol=1e-4, atol=1e-4)


def test_compiled_model_accepts_second_size() -> None:
    model = build()
    compiled = torch.compile(model, backend='aot_eager')
    with torch.no_grad():
        for size in ((64, 96), (96, 128)):
            inputs = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(inputs), model(inputs), rtol=1e-4, atol=1e-4)


class OwnNeck(torch.nn.Module):
    """Takes the taps alone."""

    def forward(self, taps: tuple) -> tuple:
        return tuple(F.interpolate(tap[0][:, :8], scale_factor=4) for tap in taps)


def test_user_neck_trains_and_predicts() -> None:
    model = build()
    model.neck = OwnNeck()
    inputs, samples = torch.randn(2, 3, 32, 48), [sample((32, 48)), sample((32, 48))]
    assert model.loss(inputs, samples)['decode.loss_ce'] > 0
    with torch.no_grad():
        logits = model.predict(inputs, samples, with_logits=True)[0].seg_logits.data
        expected = F.interpolate(model(inputs), size=(32, 48), mode='bilinear')[0]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_copy_of_compiled_model_computes_losses() -> None:
    model = build()
    model.compile_losses(backend='eager')
    inputs, samples = torch.randn(1, 3, 32, 48), [sample((32, 48))]
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        assert torch.equal(
            other.loss(inputs, samples)['decode.loss_ce'], build().loss(inputs, samples)['decode.loss_ce']
        )
        torch.nn.init.zeros_(other.decode_head.conv_seg.weight)
        torch.nn.init.zeros_(other.decode_head.conv_seg.bias)
        assert other.loss(inputs, samples)['decode.loss_ce'].item() == pytest.approx(math.log(CLASSES))
