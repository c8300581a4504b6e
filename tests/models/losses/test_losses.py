"""Cross-entropy and accuracy against numpy and torch."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dpt.models.losses import CrossEntropyLoss, classwise
from dpt.models.segmentor import accuracy

WEIGHT = [0.5, 1.0, 2.0, 0.1]


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    label = torch.randint(0, 4, (2, 5, 6), generator=generator)
    label[0, :2] = 255
    return logits, label


@pytest.fixture(params=[1, 3, 4], ids=lambda classes: f'{classes} classes at a time')
def chunks(request, monkeypatch) -> None:
    monkeypatch.setattr(classwise, 'CLASSES_AT_A_TIME', request.param)


def resized_cross_entropy(logits: torch.Tensor, label: torch.Tensor, **options) -> torch.Tensor:
    """Resize, then torch's cross-entropy."""
    fine = F.interpolate(logits, size=label.shape[-2:], mode='bilinear', align_corners=False)
    return F.cross_entropy(fine, label, ignore_index=255, **options)


@pytest.mark.usefixtures('chunks')
@pytest.mark.parametrize('weight', [None, WEIGHT])
@pytest.mark.parametrize('avg_non_ignore', [True, False])
@pytest.mark.parametrize('size', [(5, 6), (3, 13), (12, 4), (11, 13)])
def test_loss_and_gradient_equal_those_of_resizing_first(size, avg_non_ignore, weight) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 4, *size, generator=generator, requires_grad=True)
    label = torch.randint(0, 4, (2, 11, 13), generator=generator)
    label[0, :3] = 255
    loss = CrossEntropyLoss(weight, 3.0, avg_non_ignore=avg_non_ignore)(coarse, label, 255)
    loss.backward()
    twin = coarse.detach().clone().requires_grad_()
    expected = 3 * resized_cross_entropy(twin, label, weight=None if weight is None else torch.tensor(weight))
    if not avg_non_ignore and weight is None:  # the published mean counts ignored pixels
        expected = expected * (label != 255).float().mean()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(coarse.grad, twin.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures('chunks')
def test_second_derivatives_equal_torch() -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(1, 4, 3, 3), torch.randint(0, 4, (1, 5, 5))
    ours = torch.autograd.functional.hessian(lambda x: CrossEntropyLoss()(x, label, 255), logits)
    expected = torch.autograd.functional.hessian(lambda x: resized_cross_entropy(x, label), logits)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize('weight', [None, WEIGHT])
def test_unlabelled_image_has_zero_loss_and_gradient(avg_non_ignore: bool, weight) -> None:
    logits = torch.randn(1, 4, 3, 3, requires_grad=True)
    loss = CrossEntropyLoss(weight, avg_non_ignore=avg_non_ignore)(logits, torch.full((1, 3, 3), 255), 255)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_loss_of_half_models_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 3, 300, 300).to(dtype).requires_grad_()
    target, weight = torch.randint(0, 3, (2, 300, 300)), [1.0, 2.0, 4.0]  # exact in half precision
    loss = CrossEntropyLoss(weight).to(dtype)(logits, target)
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), target, torch.tensor(weight)))
    loss.backward()
    assert logits.grad.dtype == dtype


def test_masked_classes_give_the_loss_of_torch() -> None:
    logits, target = torch.randn(2, 4, 6, 6), torch.randint(0, 3, (2, 6, 6))
    logits[:, 3] = -math.inf
    logits.requires_grad_()
    loss = CrossEntropyLoss()(logits, target)
    torch.testing.assert_close(loss, F.cross_entropy(logits, target))
    loss.backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('label', [4, 9, -1])
def test_label_outside_classes_raises(label: int, case) -> None:
    case[1][0, 4, 4] = label
    with pytest.raises(RuntimeError, match='out of bounds'):
        CrossEntropyLoss()(*case, 255)


def test_wrong_number_of_class_weights_raises(case) -> None:
    with pytest.raises(ValueError, match='class_weight has 2 entries'):
        CrossEntropyLoss([1.0, 2.0])(*case, 255)


def test_accuracy_is_the_share_of_labelled_pixels(case) -> None:
    prediction, label = case[0].argmax(1).numpy(), case[1].numpy()
    for ignored in (255, 0):  # a class that is ignored does not count as right
        expected = 100 * np.mean((prediction == label)[label != ignored])
        assert accuracy(*case, ignored).item() == pytest.approx(expected, rel=1e-6)
    assert accuracy(case[0], torch.full_like(case[1], 255), 255).item() == 0
