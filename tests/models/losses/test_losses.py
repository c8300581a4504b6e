"""Cross-entropy and accuracy against numpy and torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dpt.models.losses import CrossEntropyLoss, resized_cross_entropy


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
    loss = CrossEntropyLoss()
    assert loss.with_accuracy(*case, 255)[1].item() == pytest.approx(expected, rel=1e-6)
    assert loss.with_accuracy(case[0], torch.full_like(case[1], 255), 255)[1].item() == 0


def test_an_ignored_class_is_never_right() -> None:
    logits = torch.zeros(1, 2, 1, 2)
    logits[:, 0] = 1  # class 0 everywhere
    label = torch.tensor([[[0, 1]]])
    assert CrossEntropyLoss().with_accuracy(logits, label, 0)[1].item() == 0
    assert CrossEntropyLoss().with_accuracy(logits, label, 255)[1].item() == 50


@pytest.fixture(params=[1, 3, 100], ids=lambda rows: f'bands of {rows} rows')
def narrow_bands(request, monkeypatch) -> None:
    """Bands of a few rows, for a batch of 2, 4 classes and 13 columns."""
    monkeypatch.setattr('dpt.models.layers.rows.CPU_BAND_BYTES', request.param * 2 * 4 * 4 * 13)


@pytest.mark.usefixtures('narrow_bands')
@pytest.mark.parametrize('weight', [None, [0.5, 1.0, 2.0, 0.1]])
@pytest.mark.parametrize('size', [(5, 6), (3, 13), (12, 4), (11, 13)])
def test_loss_and_gradient_equal_those_of_resizing_first(size, weight) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 4, *size, generator=generator, requires_grad=True)
    label = torch.randint(0, 4, (2, 11, 13), generator=generator)
    label[0, :3] = 255
    weights = None if weight is None else torch.tensor(weight)
    total, correct = resized_cross_entropy(coarse, label, weight=weights, ignore_index=255)
    (3 * total).backward()
    twin = coarse.detach().clone().requires_grad_()
    fine = F.interpolate(twin, size=(11, 13), mode='bilinear', align_corners=False)
    expected = F.cross_entropy(fine, label, weight=weights, ignore_index=255, reduction='sum')
    (3 * expected).backward()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(coarse.grad, twin.grad, rtol=1e-4, atol=1e-5)
    assert correct == (fine.argmax(1) == label).sum()


def test_nothing_of_the_label_s_size_is_kept_for_the_backward_pass() -> None:
    coarse = torch.randn(1, 8, 16, 16, requires_grad=True)
    total, _ = resized_cross_entropy(coarse, torch.zeros(1, 64, 64, dtype=torch.long), ignore_index=255)
    assert [tensor.numel() for tensor in total.grad_fn.saved_tensors] == [coarse.numel()]


def test_bfloat16_logits_get_bfloat16_gradients(case) -> None:
    logits = case[0].bfloat16().requires_grad_()
    CrossEntropyLoss()(logits, case[1], 255).backward()
    assert logits.grad.dtype == torch.bfloat16


def test_without_a_gradient_none_is_made(case) -> None:
    logits = case[0].requires_grad_()
    with torch.no_grad():
        total, _ = resized_cross_entropy(logits, case[1], ignore_index=255)
    assert not total.requires_grad
    expected, _ = resized_cross_entropy(logits, case[1], ignore_index=255)
    assert torch.equal(total, expected)


def test_torch_s_own_checks_of_an_operator_hold(case) -> None:
    arguments = (case[0].requires_grad_(), case[1], None, 255, True)
    torch.library.opcheck(torch.ops.dpt.resized_cross_entropy.default, arguments)
