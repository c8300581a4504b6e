"""EncoderDecoder and SegTTAModel on a tiny DPT."""

import copy
import io
import math
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import EMAHook
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from tiny_models import BACKBONES, CLASSES, PREPROCESSOR, WINDOWS, build, config, image, labels, sample
from torch import distributed
from torch._dynamo.testing import CompileCounter

from dpt.models import SegTTAModel
from dpt.registry import MODELS
from dpt.structures import SegDataSample

FLIPPED = {None: (), 'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}  # dimensions


def enlarged(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(logits, size=size, mode='bilinear', align_corners=False)


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


def test_prediction_does_not_depend_on_batch() -> None:
    model = build()
    inputs = [image((32, 32), seed) for seed in (0, 1)]
    with torch.no_grad():
        together = model.test_step(dict(inputs=inputs, data_samples=[sample((32, 32)), sample((32, 32))]))
        for one, found in zip(inputs, together, strict=True):
            (alone,) = model.test_step(dict(inputs=[one], data_samples=[sample((32, 32))]))
            assert torch.equal(alone.pred_sem_seg.data, found.pred_sem_seg.data)


@pytest.mark.parametrize('direction', FLIPPED)
def test_predictions_equal_argmax_of_whole_logits(direction: str | None) -> None:
    model = build(data_preprocessor=dict(PREPROCESSOR, test_cfg=dict(size_divisor=16)))
    meta = dict(ori_shape=(50, 61), flip=direction is not None, flip_direction=direction)
    data = dict(inputs=[image((33, 47))], data_samples=[sample((33, 47), **meta)])
    with torch.no_grad():
        batch = model.data_preprocessor(copy.deepcopy(data), False)
        assert batch['inputs'].shape[-2:] == (48, 48)
        predicted = model.predict(**copy.deepcopy(batch), with_logits=True)[0]
        logits = enlarged(model(batch['inputs']), (48, 48))[..., :33, :47].flip(FLIPPED[direction])
        logits = enlarged(logits, (50, 61))[0]
        plain = model.test_step(data)[0]
    torch.testing.assert_close(predicted.seg_logits.data, logits, rtol=1e-4, atol=1e-5)
    assert torch.equal(predicted.pred_sem_seg.data[0].long(), logits.argmax(0))
    assert torch.equal(plain.pred_sem_seg.data, predicted.pred_sem_seg.data)
    assert 'seg_logits' not in plain
    assert predicted.pred_sem_seg.data.unique().numel() > 1


@pytest.mark.parametrize(
    ('ori_shape', 'crop_size', 'stride', 'tops', 'lefts'),
    [
        ((81, 90), (32, 32), (16, 24), (0, 16, 32), (0, 24, 48)),
        ((29, 31), (32, 32), (16, 24), (0, 16, 32), (0, 24, 48)),
        ((60, 140), (16, 48), (10, 48), (0, 10, 20, 30, 40, 48), (0, 32)),
        ((81, 90), (32, 96), (32, 80), (0, 32), (0,)),
        ((29, 31), (96, 96), (64, 64), (0,), (0,)),  # one window covers the input
    ],
)
@pytest.mark.parametrize('direction', FLIPPED)
def test_sliding_windows_restore_to_the_original_image(
    direction: str | None, ori_shape: tuple, crop_size: tuple, stride: tuple, tops: tuple, lefts: tuple
) -> None:
    model = build(test_cfg=dict(mode='slide', crop_size=crop_size, stride=stride))
    meta = dict(ori_shape=ori_shape, flip=direction is not None, flip_direction=direction)
    inputs = torch.randn(1, 3, 64, 80)
    height, width = min(crop_size[0], 64), min(crop_size[1], 80)
    total, count = torch.zeros(1, CLASSES, 64, 80), torch.zeros(64, 80)
    with torch.no_grad():
        found = model.predict(inputs, [sample((60, 70), **meta)], with_logits=True)[0]
        for top in tops:
            for left in lefts:
                window = (..., slice(top, top + height), slice(left, left + width))
                total[window] += enlarged(model(inputs[window]), (height, width))
                count[window] += 1
    logits = (total / count)[..., :60, :70].flip(FLIPPED[direction])
    expected = enlarged(logits, ori_shape)[0]
    torch.testing.assert_close(found.seg_logits.data, expected, rtol=1e-4, atol=1e-4)
    assert (found.pred_sem_seg.data[0] != expected.argmax(0)).float().mean() < 0.001


def test_tta_averages_the_softmax_of_its_views() -> None:
    model, picture = build(), image((32, 48))
    samples = [[sample((32, 48), flip=flip, flip_direction='horizontal')] for flip in (False, True)]
    data = dict(inputs=[[picture], [picture.flip(2)]], data_samples=samples)
    with torch.no_grad():
        merged = SegTTAModel(module=model).eval().test_step(copy.deepcopy(data))[0]
        total = torch.zeros(CLASSES, 32, 48)
        for (view,), (one,) in zip(data['inputs'], samples, strict=True):
            logits = enlarged(model((view[None].float() - 127.5) / 127.5), (32, 48))[0]
            total += (logits.flip(2) if one.flip else logits).softmax(0)
    assert torch.equal(merged.pred_sem_seg.data[0].long(), total.argmax(0))
    assert merged.pred_sem_seg.data.unique().numel() > 1
    assert merged.gt_sem_seg.data.shape == (1, 32, 48)


def test_tta_of_one_view_is_the_plain_prediction() -> None:
    model, picture = build(), image((32, 48))
    batch = dict(inputs=[[picture]], data_samples=[[SegDataSample()]])  # its sizes are those of the input
    merged = SegTTAModel(module=model).eval().test_step(batch)[0].pred_sem_seg.data[0]
    assert torch.equal(merged, labels(model, (picture[None].float() - 127.5) / 127.5))


@pytest.mark.parametrize(
    'test_cfg',
    [
        dict(mode='silde'),
        dict(mode='slide'),
        dict(mode='whole', crop=(1, 1)),
        dict(crop_size=(32, 32), stride=(16, 16)),
        *(dict(WINDOWS, crop_size=size) for size in (64, (0, 32), (32.0, 32.0), None)),
        dict(WINDOWS, stride=(48, 48)),  # beyond the window: gaps
    ],
)
def test_wrong_test_cfg_raises(test_cfg: dict) -> None:
    with pytest.raises(ValueError, match=r'model\.test_cfg'):
        build(test_cfg=test_cfg)


def test_windows_without_effect_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr('dpt.models.dense.print_log', lambda line, *_: lines.append(line))
    build(test_cfg=dict(WINDOWS, mode='whole'))
    assert lines == [line for line in lines if 'crop_size and stride, which only sliding windows use' in line]
    assert len(lines) == 1


def test_unknown_arguments_raise() -> None:
    with pytest.raises(TypeError):
        build(losses=dict(type='CrossEntropyLoss'))
    with pytest.raises(ValueError, match='mode'):
        build()(torch.zeros(1, 3, 32, 32), mode='train')


def test_images_and_labels_must_be_equally_many() -> None:
    model, inputs = build(), torch.zeros(2, 3, 32, 32)
    with pytest.raises(ValueError, match='got logits of 2 images but labels of 1'):
        model.loss(inputs, [sample((32, 32))])
    with pytest.raises(ValueError, match='2 images, but 1 data samples'):
        model.predict(inputs, [sample((32, 32))])


def test_auxiliary_heads_add_a_weighted_loss() -> None:
    head = dict(type='FCNHead', in_channels=8, num_classes=CLASSES, in_index=1)
    model, inputs = build(auxiliary_heads=[head]), torch.randn(1, 3, 32, 32)
    losses = model.loss(inputs, [sample((32, 32))])
    maps = model.extract_feat(inputs)
    logits = enlarged(model.auxiliary_heads[0](maps), (32, 32))
    expected = 0.2 * F.cross_entropy(logits, torch.zeros(1, 32, 32, dtype=torch.long))
    assert losses['aux.loss_ce'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_model_builds_without_default_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    assert type(MODELS.build(config()).data_preprocessor).__name__ == 'SegDataPreProcessor'


@pytest.mark.parametrize('gradients', [False, True])
def test_predict_equals_forward_with_batch_norm_in_training(gradients: bool) -> None:
    model, inputs = build(), torch.randn(1, 3, 64, 64)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.train()
    with torch.set_grad_enabled(gradients):
        logits = enlarged(model(inputs), (64, 64))
        predicted = model.predict(inputs)[0].pred_sem_seg.data
    assert torch.equal(predicted[0].long(), logits[0].argmax(0))


def test_compiled_loss_equals_eager_without_graph_breaks() -> None:
    model = build().train()
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


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of one process."""
    store = distributed.FileStore(str(tmp_path / 'store'), 1)
    distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


TIMM = dict(
    type='TimmBackbone',
    model_name='vit_base_patch16_dinov3',
    model_args=dict(embed_dim=24, depth=4, num_heads=3),
    out_indices=(0, 1, 2, 3),
)
OWN, LORA, CP = BACKBONES['vit'], dict(lora=dict(r=2)), dict(with_cp=True)
COMPILED = {
    'plain': (OWN, None),
    'with_cp': ({**OWN, **CP}, None),
    'frozen, with_cp': (dict(OWN, frozen_stages=2, **CP), None),
    'lora, ema': ({**OWN, **LORA}, 'ema'),
    'lora, with_cp, ddp': ({**OWN, **LORA, **CP}, 'ddp'),
    'timm, lora, with_cp': ({**TIMM, **LORA, **CP}, None),
}


@pytest.mark.parametrize('case', COMPILED)
def test_losses_compile_once_for_all_images_and_rates(
    case: str, one_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()  # the limit of recompilations counts the models of all cases
    backbone, wrapped = COMPILED[case]
    for key, needed in dict(lora='peft', model_name='timm').items():
        if key in backbone:
            pytest.importorskip(needed)
    monkeypatch.setattr(distributed, '_DEFAULT_FIRST_BUCKET_BYTES', 1000)
    counter = CompileCounter()
    model = build(data_preprocessor=dict(PREPROCESSOR, size=(48, 48)), backbone=backbone).train()
    names = set(model.state_dict())
    model.compile_losses(backend=counter, fullgraph=True)
    trained = model
    if wrapped == 'ddp':  # with several buckets, as those of a large model
        trained = MMDistributedDataParallel(model, gradient_as_bucket_view=True, bucket_cap_mb=0.01)
    wrapper = build_optim_wrapper(trained, dict(optimizer=dict(type='AdamW', lr=1e-3)))
    runner, average = SimpleNamespace(model=model, iter=0), EMAHook()
    if wrapped == 'ema':
        average.before_run(runner)
    for step in range(3):
        sizes = [(30 + step, 48), (32, 40 + step)]
        samples = [sample(size, flip=bool(step)) for size in sizes]
        log = trained.train_step(dict(inputs=[image(size) for size in sizes], data_samples=samples), wrapper)
        wrapper.optimizer.param_groups[0]['lr'] /= 2
        if step == 0:
            graphs = counter.frame_count
        if wrapped == 'ema':  # a validation with the averaged weights
            average.after_train_iter(runner, step)
            average.before_val_epoch(runner)
            average.after_val_epoch(runner)
    assert counter.frame_count == graphs
    assert graphs == 1 or wrapped == 'ddp'  # torch splits the graph at the buckets
    assert log['loss'] > 0
    assert set(model.state_dict()) == names


def test_copy_of_compiled_model_computes_losses() -> None:
    model = build()
    model.compile_losses(backend='eager')
    inputs, samples = torch.randn(1, 3, 32, 48), [sample((32, 48))]
    expected = build().loss(inputs, samples)['decode.loss_ce']
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        assert torch.equal(other.loss(inputs, samples)['decode.loss_ce'], expected)
        torch.nn.init.zeros_(other.decode_head.conv_seg.weight)
        torch.nn.init.zeros_(other.decode_head.conv_seg.bias)
        assert other.loss(inputs, samples)['decode.loss_ce'].item() == pytest.approx(math.log(CLASSES))


def test_compiled_model_accepts_second_size() -> None:
    model = build()
    compiled = torch.compile(model, backend='aot_eager')
    with torch.no_grad():
        for size in ((64, 96), (96, 128)):
            inputs = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(inputs), model(inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', ['vit', 'hybrid'])
@pytest.mark.parametrize(
    ('traced', 'other'), [((48, 80), (64, 50)), ((32, 32), (48, 80)), ((64, 64), (48, 80))]
)
def test_traces_take_other_sizes(kind: str, traced: tuple, other: tuple) -> None:
    model, inputs = build(kind), torch.randn(2, 3, *other)
    trace = torch.jit.trace(model, torch.randn(1, 3, *traced), check_trace=False)
    with torch.no_grad():
        torch.testing.assert_close(trace(inputs), model(inputs))
