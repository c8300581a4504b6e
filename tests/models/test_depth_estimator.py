"""DepthEstimator and DepthTTAModel on a tiny DPT."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from tiny_models import build, config, image, sample
from torch import Tensor

from dpt.checkpoints import load_model, save_weights
from dpt.models import DepthEstimator, DepthTTAModel
from dpt.registry import MODELS
from dpt.structures import SegDataSample

METRIC = dict(type='DepthHead', in_channels=8, max_depth=10.0)
RELATIVE = dict(METRIC, output='relu', relative=True)
RELATIVE_MODEL = dict(decode_head=RELATIVE, loss=dict(type='ScaleShiftInvariantLoss'))
SIZE = (40, 56)
WINDOWS = dict(mode='slide', crop_size=(32, 32), stride=(16, 24))


def estimator(**arguments: object) -> DepthEstimator:
    return build(**{**dict(type='DepthEstimator', decode_head=METRIC), **arguments})


def samples(count: int = 2, depth: float | None = None, **meta: object) -> list[SegDataSample]:
    generator = torch.Generator().manual_seed(0)
    made = [sample(SIZE, **meta) for _ in range(count)]
    for one in made:
        data = 0.5 + 8 * torch.rand(1, *SIZE, generator=generator)
        one.gt_depth_map = PixelData(data=data if depth is None else torch.full_like(data, depth))
    return made


def depth_of(model: DepthEstimator, inputs: Tensor, *given: SegDataSample) -> Tensor:
    """Predicted depth of shape HxW of a single image of shape 1x3xHxW."""
    with torch.no_grad():
        return model.predict(inputs, [*given] or None)[0].pred_depth_map.data[0]


@pytest.mark.parametrize(
    ('arguments', 'resizing'),
    [
        ({}, dict(mode='bilinear', align_corners=True)),
        (dict(align_corners=False), dict(mode='bilinear', align_corners=False)),
        (dict(resize_mode='bicubic'), dict(mode='bicubic', align_corners=False)),
    ],
)
def test_predictions_have_the_size_of_the_original_image(arguments: dict, resizing: dict) -> None:
    model, inputs = estimator(**arguments), torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        expected = F.interpolate(model(inputs), SIZE, **resizing)[..., :33, :49].flip(-1)
    meta = dict(img_shape=(33, 49), ori_shape=(67, 90), flip=True, flip_direction='horizontal')
    found = depth_of(model, inputs, sample(SIZE, **meta))
    torch.testing.assert_close(found, F.interpolate(expected, (67, 90), **resizing)[0, 0])


@pytest.mark.parametrize('align_corners', [True, False])
@pytest.mark.parametrize('flip', [None, 'horizontal', 'vertical'])
def test_strips_of_windows_restore_like_their_whole(align_corners: bool, flip: str | None) -> None:
    model, inputs = estimator(align_corners=align_corners, test_cfg=WINDOWS), torch.randn(1, 3, 70, 90)
    whole = sample((70, 90), img_shape=(70, 90), ori_shape=(70, 90))
    padded = depth_of(model, inputs, whole)[None, None, :66, :81]
    dims = {None: (), 'horizontal': (-1,), 'vertical': (-2,)}[flip]
    expected = F.interpolate(padded.flip(dims), (133, 120), mode='bilinear', align_corners=align_corners)
    meta = dict(img_shape=(66, 81), ori_shape=(133, 120), flip=flip is not None, flip_direction=flip)
    found = depth_of(model, inputs, sample((70, 90), **meta))
    torch.testing.assert_close(found, expected[0, 0], rtol=1e-4, atol=1e-4)


def test_windows_that_cover_the_image_equal_the_whole() -> None:
    inputs, covering = torch.randn(1, 3, *SIZE), dict(WINDOWS, crop_size=SIZE)
    found = depth_of(estimator(test_cfg=covering), inputs)
    torch.testing.assert_close(found, depth_of(estimator(), inputs))


def test_loss_compares_valid_depth_at_the_size_of_the_target() -> None:
    model = estimator(
        min_depth=1.0, max_depth=7.0, loss=[dict(type='SiLogLoss'), dict(type='GradientLogLoss')]
    )
    inputs, data = torch.randn(2, 3, *SIZE), samples()
    data[0].gt_depth_map.data[0, :5] = torch.tensor([0, torch.nan, torch.inf, -1, 8])[:, None]
    target = torch.stack([one.gt_depth_map.data for one in data])
    valid = (target >= 1) & (target <= 7)
    pred = F.interpolate(model(inputs), SIZE, mode='bilinear', align_corners=True)
    expected = {f'decode.{one.loss_name}': one(pred, target, valid) for one in model.loss_decode}
    assert set(expected) == {'decode.loss_silog', 'decode.loss_grad_log'}
    torch.testing.assert_close(model(inputs, data, mode='loss'), expected)


@pytest.mark.parametrize('precision', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('depth', [None, 0.0])
@pytest.mark.parametrize(
    'arguments',
    [dict(loss=[dict(type='SiLogLoss', warm_up_iters=1), dict(type='GradientLogLoss')]), RELATIVE_MODEL],
)
def test_every_parameter_gets_a_finite_gradient(arguments: dict, depth, precision: torch.dtype) -> None:
    model = estimator(**arguments).train()
    with torch.autocast('cpu', dtype=precision, enabled=precision != torch.float32):
        losses = model(torch.randn(2, 3, *SIZE), samples(depth=depth), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    gradients = [one.grad for one in model.parameters() if one.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert total.dtype == torch.float32
    assert (total == 0) == (depth == 0)


def test_compiling_changes_no_loss() -> None:
    losses = [dict(type='SiLogLoss'), dict(type='ScaleShiftInvariantLoss', invert_target=False)]
    model = estimator(loss=losses)
    inputs, data = torch.randn(2, 3, *SIZE), samples()
    expected = model(inputs, data, mode='loss')
    model.compile_losses(backend='eager', fullgraph=True)
    torch.testing.assert_close(model(inputs, data, mode='loss'), expected)
    assert '_losses' not in vars(copy.deepcopy(model))


def test_views_are_averaged_at_the_original_size() -> None:
    model = estimator()
    picture, original = image(SIZE), dict(ori_shape=(67, 90))
    flipped = dict(original, flip=True, flip_direction='horizontal')
    views = [(picture, original), (picture.flip(-1), flipped)]
    data = dict(
        inputs=[[one] for one, _ in views], data_samples=[[sample(SIZE, **meta)] for _, meta in views]
    )
    with torch.no_grad():
        found = DepthTTAModel(module=model).eval().test_step(copy.deepcopy(data))[0].pred_depth_map.data
        single = [
            model.test_step(dict(inputs=inputs, data_samples=given))[0].pred_depth_map.data
            for inputs, given in zip(data['inputs'], data['data_samples'], strict=True)
        ]
    assert not torch.allclose(*single)
    torch.testing.assert_close(found, (single[0] + single[1]) / 2)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(min_depth=2.0, max_depth=1.0), 'min_depth=2.0 and max_depth=1.0'),
        (dict(resize_mode='nearest'), "resize_mode='nearest' must be one of"),
        (dict(resize_mode='bicubic', test_cfg=WINDOWS), "'bicubic' does not fit sliding windows"),
        (dict(RELATIVE_MODEL, test_cfg=WINDOWS), 'does not fit relative depth'),
        (dict(decode_head=RELATIVE), 'SiLogLoss compares depth, but with model.decode_head.relative=True'),
        (dict(loss=RELATIVE_MODEL['loss']), 'Loss compares inverse depth without a scale, but .*=False'),
        (dict(loss=dict(type='DiceLoss')), 'DiceLoss compares gt_sem_seg, but .* loss of gt_depth_map'),
        (dict(decode_head=dict(METRIC, max_depth=None)), r'model\.decode_head: .* needs max_depth'),
        (dict(loss=[dict(type='SiLogLoss')] * 2), 'losses share a name'),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS.build(config(**{**dict(type='DepthEstimator', decode_head=METRIC), **arguments}))


def test_a_head_of_another_shape_is_named() -> None:
    head = dict(type='DPTHead', in_channels=8, num_classes=3)
    with pytest.raises(ValueError, match=r'decode_head must return depth of shape Bx1xhxw, got .*\(1, 3,'):
        estimator(decode_head=head)(torch.randn(1, 3, *SIZE))


@pytest.mark.parametrize('counts', [(0, 9), (9, 0), (9, 9)], ids=['model', 'file', 'both'])
def test_weights_load_whether_or_not_the_loss_has_a_count(counts: tuple[int, int], tmp_path: Path) -> None:
    given, model = (estimator(loss=dict(type='SiLogLoss', warm_up_iters=count)) for count in counts)
    if counts[0]:
        given.loss_decode[0].iterations += 5
    save_weights(given.state_dict(), {}, tmp_path / 'a.pth')
    load_model(model, tmp_path / 'a.pth')
    for key, tensor in model.state_dict().items():
        expected = given.state_dict().get(key, torch.tensor(0))
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0)
