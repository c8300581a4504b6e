"""The Triton kernels of the cross-entropy, run by Triton's interpreter, against float64."""

import importlib
import sys

import pytest
import torch
import torch.nn.functional as F

from dpt.models.losses import CrossEntropyLoss


@pytest.fixture
def triton() -> None:
    pytest.importorskip('triton', reason='triton is not installed: builds of torch for CPUs come without it')


DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
CASES = [
    # classes, (h, w), (H, W), block of (pixels, classes), class weights, layout
    (2, (4, 5), (8, 10), (64, 16), False, torch.contiguous_format),
    (3, (1, 1), (5, 3), (64, 16), True, torch.channels_last),
    (17, (2, 3), (5, 6), (8, 16), False, torch.channels_last),  # several blocks of pixels and classes
    (19, (7, 9), (7, 9), (64, 32), True, torch.contiguous_format),
    (20, (9, 8), (5, 6), (128, 32), False, torch.channels_last),  # coarser
    (150, (3, 3), (12, 12), (256, 256), True, torch.channels_last),
    (1000, (2, 3), (4, 6), (32, 1024), False, torch.contiguous_format),
]


@pytest.mark.usefixtures('triton')
@pytest.mark.parametrize(('classes', 'coarse', 'fine', 'block', 'weighted', 'layout'), CASES)
def test_loss_and_gradient_equal_float64(
    classes: int,
    coarse: tuple[int, int],
    fine: tuple[int, int],
    block: tuple[int, int],
    weighted: bool,
    layout: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = torch.Generator().manual_seed(classes)
    logits = torch.randn(2, classes, *coarse, generator=random) * 4
    target = torch.randint(0, classes, (2, *fine), generator=random)
    ignored = 2000
    target[torch.rand(target.shape, generator=random) < 0.2] = ignored
    weight = torch.rand(classes, generator=random) + 0.5 if weighted else None
    exact = logits.double().requires_grad_()
    resized = F.interpolate(exact, fine, mode='bilinear', align_corners=False)
    weight64 = None if weight is None else weight.double()
    expected = F.cross_entropy(resized, target, weight=weight64, ignore_index=ignored)
    expected.backward()
    loss = CrossEntropyLoss(
        weight if weight is None else weight.tolist(), kernel='triton', avg_non_ignore=True
    )
    kernels = importlib.import_module('dpt.models.losses.triton_cross_entropy')
    monkeypatch.setattr(kernels, 'PIXELS', block[0])
    monkeypatch.setattr(kernels, 'CLASSES', block[1])
    given = logits.to(DEVICE).clone(memory_format=layout).requires_grad_()
    found = loss.to(DEVICE)(given, target.to(DEVICE), ignore_index=ignored)
    found.backward()
    torch.testing.assert_close(found.double().cpu(), expected.detach(), rtol=1e-6, atol=1e-7)
    assert (given.grad.double().cpu() - exact.grad).abs().max() < 2e-6 * exact.grad.abs().max()
    assert given.grad.is_contiguous(memory_format=layout)


@pytest.mark.usefixtures('triton')
def test_half_precision_equals_the_reference() -> None:
    logits = torch.randn(1, 9, 4, 4).bfloat16().to(DEVICE)
    target = torch.randint(0, 9, (1, 8, 8)).to(DEVICE)
    gradients = []
    for kernel in ('torch', 'triton'):
        given = logits.clone().requires_grad_()
        CrossEntropyLoss(kernel=kernel)(given, target).backward()
        assert given.grad.dtype == torch.bfloat16
        gradients.append(given.grad.float())
    assert (gradients[0] - gradients[1]).abs().max() <= gradients[0].abs().max() / 128


@pytest.mark.usefixtures('triton')
def test_an_invalid_label_gives_nan() -> None:
    target = torch.full((1, 4, 4), 7)
    assert CrossEntropyLoss(kernel='triton')(torch.zeros(1, 3, 2, 2).to(DEVICE), target.to(DEVICE)).isnan()


def test_kernels_that_cannot_run_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="kernel='cuda' must be 'auto', 'torch' or 'triton'"):
        CrossEntropyLoss(kernel='cuda')
    with pytest.raises(ValueError, match='use_sigmoid=True has no Triton kernel'):
        CrossEntropyLoss(kernel='triton', use_sigmoid=True)
    monkeypatch.setitem(sys.modules, 'triton', None)
    monkeypatch.delitem(sys.modules, 'dpt.models.losses.triton_cross_entropy', raising=False)
    with pytest.raises(ValueError, match='needs the package triton'):
        CrossEntropyLoss(kernel='triton')
    CrossEntropyLoss(kernel='auto')
