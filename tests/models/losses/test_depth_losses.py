"""Losses of depth: what is not valid, half precision, warm-up. For values see test_depth_chain_losses.py."""

import pytest
import torch

from dpt.registry import MODELS

LOSSES = [
    dict(type='SiLogLoss'),
    dict(type='SiLogLoss', per_image=False, unbiased=True, add_eps=True, warm_up_iters=1),
    dict(type='GradientLogLoss'),
    dict(type='ScaleShiftInvariantLoss'),
    dict(type='ScaleShiftInvariantLoss', alignment='least_squares', trim=0.0, per_image=False),
]


@pytest.fixture
def depth() -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions and targets."""
    generator = torch.Generator().manual_seed(0)
    pred, target = 0.5 + 9 * torch.rand(2, 2, 1, 12, 15, generator=generator)
    return pred, target


def value_and_gradient(config: dict, pred, target, valid) -> tuple[torch.Tensor, torch.Tensor]:
    pred = pred.clone().requires_grad_()
    loss = MODELS.build(config)(pred, target, valid)
    assert loss.dtype == torch.float32
    return loss.detach(), *torch.autograd.grad(loss, pred)


@pytest.mark.parametrize('config', LOSSES)
@pytest.mark.parametrize('images', [[0, 1], [0]])
def test_images_without_valid_pixels_count_as_zero(config: dict, images: list, depth: tuple) -> None:
    pred, target = depth
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[images] = False
    loss, gradient = value_and_gradient(config, pred, target.where(valid, 0), valid)
    assert not gradient[images].any()
    assert gradient.isfinite().all()
    single = value_and_gradient(config, pred[1:], target[1:], valid[1:])[0]
    share = 1 if len(images) == 2 or not config.get('per_image', config['type'] != 'GradientLogLoss') else 0.5
    torch.testing.assert_close(loss, share * single)
    assert (loss == 0) == (len(images) == 2)


@pytest.mark.parametrize('config', LOSSES)
def test_what_is_not_valid_has_no_influence(config: dict, depth: tuple) -> None:
    pred, target = depth
    valid = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    expected = value_and_gradient(config, pred, target, valid)
    for value in (torch.nan, torch.inf, -1, 0):
        found = value_and_gradient(config, pred.where(valid, value), target.where(valid, value), valid)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize('config', LOSSES)
@pytest.mark.parametrize('value', [0.0, 3.0])
def test_constant_and_perfect_predictions_have_finite_gradients(config: dict, value, depth: tuple) -> None:
    _, target = depth
    valid = torch.ones_like(target, dtype=torch.bool)
    for pred in (torch.full_like(target, value), target, 1 / target):
        loss, gradient = value_and_gradient(config, pred, target, valid)
        assert loss.isfinite()
        assert gradient.abs().max() < 1e4


@pytest.mark.parametrize('config', LOSSES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(config: dict, dtype: torch.dtype, depth: tuple) -> None:
    pred, target = depth[0].to(dtype), depth[1]
    valid = torch.ones_like(target, dtype=torch.bool)
    expected = value_and_gradient(config, pred.float(), target, valid)[0]
    with torch.autocast('cpu', dtype=dtype):
        torch.testing.assert_close(value_and_gradient(config, pred, target, valid)[0], expected)


def test_warm_up_counts_training_iterations_and_is_saved(depth: tuple) -> None:
    valid = torch.ones_like(depth[1], dtype=torch.bool)
    loss, plain = (MODELS.build(dict(type='SiLogLoss', warm_up_iters=n)) for n in (2, 0))
    resumed = MODELS.build(dict(type='SiLogLoss', warm_up_iters=2))
    loss.eval()(*depth, valid)
    first, second, third = (loss.train()(*depth, valid) for _ in range(3))
    assert first == second < third == plain(*depth, valid)
    resumed.load_state_dict(loss.state_dict())
    assert resumed(*depth, valid) == third
    assert not plain.state_dict()


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='SiLogLoss', variance_focus=2), 'variance_focus=2 must be from 0 to 1'),
        (dict(type='SiLogLoss', eps=0), 'eps=0 must be above 0'),
        (dict(type='GradientLogLoss', strides=()), 'strides=.. must be'),
        (dict(type='ScaleShiftInvariantLoss', alignment='mean'), "alignment='mean' must be 'median'"),
        (dict(type='ScaleShiftInvariantLoss', trim=1), 'trim=1 must be from 0'),
    ],
)
def test_wrong_arguments_are_named(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)
