"""Cross-entropy and accuracy against numpy and torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dpt.models.losses import CrossEntropyLoss, accuracy


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


def test_the_published_mean_counts_ignored_pixels(case) -> None:
    losses = numpy_losses(*case)
    assert CrossEntropyLoss()(*case, 255).item() == pytest.approx(losses.sum() / case[1].numel(), rel=1e-6)


def test_the_mean_over_labelled_pixels_is_torch_s(case) -> None:
    loss = CrossEntropyLoss(avg_non_ignore=True, loss_weight=0.5)(*case, 255)
    assert loss.item() == pytest.approx(0.5 * F.cross_entropy(*case, ignore_index=255).item(), rel=1e-6)
    assert loss.item() == pytest.approx(0.5 * numpy_losses(*case).mean(), rel=1e-6)


def test_class_weights_are_torch_s(case) -> None:
    weight = [0.5, 1.0, 2.0, 0.1]
    loss = CrossEntropyLoss(weight)(*case, 255)
    expected = F.cross_entropy(*case, weight=torch.tensor(weight), ignore_index=255)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize('weight', [None, [1.0, 2.0, 3.0, 4.0]])
def test_an_image_without_labels_has_loss_and_gradient_zero(avg_non_ignore: bool, weight) -> None:
    logits = torch.randn(1, 4, 3, 3, requires_grad=True)
    loss = CrossEntropyLoss(weight, avg_non_ignore=avg_non_ignore)(logits, torch.full((1, 3, 3), 255), 255)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_half_precision_logits_are_summed_in_float32(case) -> None:
    assert CrossEntropyLoss()(case[0].bfloat16(), case[1], 255).dtype == torch.float32


def test_wrong_arguments_are_errors(case) -> None:
    with pytest.raises(ValueError, match='class_weight has 2 entries'):
        CrossEntropyLoss([1.0, 2.0])(*case, 255)
    with pytest.raises(ValueError, match='loss_name'):
        CrossEntropyLoss(loss_name='ce')


def test_accuracy_is_the_share_of_labelled_pixels(case) -> None:
    prediction, label = case[0].argmax(1).numpy(), case[1].numpy()
    expected = 100 * (prediction == label)[label != 255].mean()
    assert accuracy(*case, 255).item() == pytest.approx(expected, rel=1e-6)
    assert accuracy(case[0], torch.full_like(case[1], 255), 255).item() == 0
