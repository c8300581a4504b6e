"""Cross-entropy and accuracy against numpy and torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dpt.models.losses import CrossEntropyLoss, cross_entropy
from dpt.models.segmentor import accuracy


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    label = torch.randint(0, 4, (2, 5, 6), generator=generator)
    label[0, :2] = 255
    return logits, label


def numpy_losses(logits: torch.Tensor, label: torch.Tensor) -> np.ndarray:
    """Negative log-softmax at each labelled pixel."""
    x = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).double().numpy()
    y = label.flatten().numpy()
    x, y = x[y != 255], y[y != 255]
    return np.log(np.exp(x).sum(1)) - x[np.arange(len(y)), y]


def test_published_mean_counts_ignored_pixels(case) -> None:
    losses = numpy_losses(*case)
    assert CrossEntropyLoss()(*case, 255).item() == pytest.approx(losses.sum() / case[1].numel(), rel=1e-6)


def test_mean_over_labelled_pixels_equals_torch(case) -> None:
    loss = CrossEntropyLoss(avg_non_ignore=True, loss_weight=0.5)(*case, 255)
    assert loss.item() == pytest.approx(0.5 * F.cross_entropy(*case, ignore_index=255).item(), rel=1e-6)
    assert loss.item() == pytest.approx(0.5 * numpy_losses(*case).mean(), rel=1e-6)


def test_class_weights_equal_torch(case) -> None:
    weight = [0.5, 1.0, 2.0, 0.1]
    loss = CrossEntropyLoss(weight)(*case, 255)
    expected = F.cross_entropy(*case, weight=torch.tensor(weight), ignore_index=255)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize('weight', [None, [1.0, 2.0, 3.0, 4.0]])
def test_unlabelled_image_has_zero_loss_and_gradient(avg_non_ignore: bool, weight) -> None:
    logits = torch.randn(1, 4, 3, 3, requires_grad=True)
    loss = CrossEntropyLoss(weight, avg_non_ignore=avg_non_ignore)(logits, torch.full((1, 3, 3), 255), 255)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_bfloat16_logits_give_float32_loss_and_bfloat16_gradient(case) -> None:
    logits = case[0].bfloat16().requires_grad_()
    loss = CrossEntropyLoss()(logits, case[1], 255)
    loss.backward()
    assert (loss.dtype, logits.grad.dtype) == (torch.float32, torch.bfloat16)


def test_wrong_arguments_raise(case) -> None:
    with pytest.raises(ValueError, match='class_weight has 2 entries'):
        CrossEntropyLoss([1.0, 2.0])(*case, 255)


def test_accuracy_is_the_share_of_labelled_pixels(case) -> None:
    prediction, label = case[0].argmax(1).numpy(), case[1].numpy()
    expected = 100 * (prediction == label)[label != 255].mean()
    assert accuracy(*case, 255).item() == pytest.approx(expected, rel=1e-6)
    assert accuracy(case[0], torch.full_like(case[1], 255), 255).item() == 0


def test_ignored_class_does_not_count_as_right() -> None:
    logits = torch.zeros(1, 2, 1, 2)
    logits[:, 0] = 1  # class 0 everywhere
    label = torch.tensor([[[0, 1]]])
    assert accuracy(logits, label, 0).item() == 0
    assert accuracy(logits, label, 255).item() == 50


@pytest.fixture(params=[1, 3, 4], ids=lambda classes: f'{classes} classes at a time')
def chunks(request, monkeypatch) -> None:
    monkeypatch.setattr(cross_entropy, 'CLASSES_AT_A_TIME', request.param)


def resized_cross_entropy(logits: torch.Tensor, label: torch.Tensor, weight, **options) -> torch.Tensor:
    """Resize, then torch's cross-entropy."""
    fine = F.interpolate(logits, size=label.shape[-2:], mode='bilinear', align_corners=False)
    return F.cross_entropy(fine, label, weight=weight, ignore_index=255, **options)


@pytest.mark.usefixtures('chunks')
@pytest.mark.parametrize('weight', [None, [0.5, 1.0, 2.0, 0.1]])
@pytest.mark.parametrize('size', [(5, 6), (3, 13), (12, 4), (11, 13)])
def test_loss_and_gradient_equal_those_of_resizing_first(size, weight) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 4, *size, generator=generator, requires_grad=True)
    label = torch.randint(0, 4, (2, 11, 13), generator=generator)
    label[0, :3] = 255
    loss = CrossEntropyLoss(weight, 3.0, avg_non_ignore=True)(coarse, label, 255)
    loss.backward()
    twin = coarse.detach().clone().requires_grad_()
    expected = 3 * resized_cross_entropy(twin, label, None if weight is None else torch.tensor(weight))
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(coarse.grad, twin.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures('chunks')
def test_second_derivatives_equal_torch() -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(1, 4, 3, 3), torch.randint(0, 4, (1, 5, 5))
    ours = torch.autograd.functional.hessian(lambda x: CrossEntropyLoss()(x, label, 255), logits)
    expected = torch.autograd.functional.hessian(lambda x: resized_cross_entropy(x, label, None), logits)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('label', [4, 9, -1])
def test_label_outside_classes_raises(label: int, case) -> None:
    case[1][0, 4, 4] = label
    with pytest.raises(RuntimeError, match='out of bounds'):
        CrossEntropyLoss()(*case, 255)
