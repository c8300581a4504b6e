"""Losses against imbalance, against short formulas of their papers and torchvision."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from dpt.models.losses import CrossEntropyLoss, OhemCrossEntropy, OHEMPixelSampler, classwise
from dpt.registry import MODELS

K = 4
WEIGHT = [0.5, 1.0, 2.0, 0.1]
VOID = 255
REGION = [
    dict(type='DiceLoss'),
    dict(type='DiceLoss', use_sigmoid=False, naive_dice=True),
    dict(type='TverskyLoss'),
    dict(type='LovaszLoss'),
    dict(type='LovaszLoss', per_image=True, classes='all'),
]
ALL = [
    *REGION,
    dict(type='FocalLoss'),
    dict(type='CrossEntropyLoss', use_sigmoid=True),
    dict(type='OhemCrossEntropy', min_kept=20),
    dict(type='CrossEntropyLoss', sampler=dict(type='OHEMPixelSampler', min_kept=10)),
]


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, K, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def target() -> torch.Tensor:
    labels = torch.randint(0, K, (2, 5, 6), generator=torch.Generator().manual_seed(1))
    labels[0, :2] = VOID
    return labels


def positives(target: torch.Tensor) -> torch.Tensor:
    """One-hot labels of shape BxKxHxW, zero where ignored."""
    return F.one_hot(target.where(target != VOID, K), K + 1)[..., :K].permute(0, 3, 1, 2).float()


def same(config: dict, logits, target, expected) -> None:
    """Compare value and gradient with a function of the logits."""
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, wanted = MODELS.build(config)(ours, target, VOID), expected(theirs)
    loss.backward()
    wanted.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('naive', [False, True])
@pytest.mark.parametrize('left_out', [None, 1])
def test_dice_of_labelled_pixels(naive, left_out, logits, target) -> None:
    def expected(x):
        kept = [c for c in range(K) if c != left_out]
        p = (x.sigmoid() * (target != VOID)[:, None])[:, kept].flatten(1)
        y = positives(target)[:, kept].flatten(1)
        power, above, below = (1, 0.01, 0.01) if naive else (2, 0, 0.02)
        return 3 * (1 - (2 * (p * y).sum(1) + above) / ((p**power).sum(1) + y.sum(1) + below)).mean()

    config = dict(type='DiceLoss', naive_dice=naive, ignore_index=left_out, eps=0.01, loss_weight=3.0)
    same(config, logits, target, expected)
    same(dict(config, use_sigmoid=False), logits, target, lambda x: expected(x.softmax(1).logit()))


@pytest.mark.parametrize('left_out', [None, 2])
def test_tversky_counts_both_kinds_of_errors(left_out, logits, target) -> None:
    def expected(x):
        total, valid = 0, (target != VOID) & (target != (-1 if left_out is None else left_out))
        for image, labels, mask in zip(x.softmax(1), target, valid, strict=True):
            for c in set(range(K)) - {left_out}:
                p, y = image[c][mask], (labels == c)[mask].float()
                tp, fp, fn = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum()
                total = total + WEIGHT[c] * (1 - (tp + 2) / (tp + 0.6 * fp + 0.4 * fn + 2))
        return total / (2 * K)

    config = dict(type='TverskyLoss', smooth=2.0, alpha=0.6, beta=0.4, class_weight=WEIGHT)
    same(dict(config, ignore_index=left_out), logits, target, expected)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.5, 2.0])
def test_focal_equals_torchvision(gamma, logits, target) -> None:
    def expected(x):
        losses = sigmoid_focal_loss(x, positives(target), alpha=0.25, gamma=gamma)
        return 2 * (losses * torch.tensor(WEIGHT)[:, None, None] * (target != VOID)[:, None]).mean()

    config = dict(type='FocalLoss', gamma=gamma, class_weight=WEIGHT, loss_weight=2.0)
    same(dict(config, alpha=0.25), logits, target, expected)
    same(dict(config, alpha=[0.25] * K), logits, target, expected)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_focal_gradients_of_confident_logits_are_finite(gamma) -> None:
    logits = torch.tensor([-300.0, 300.0]).reshape(1, 2, 1, 1).requires_grad_()
    for label in (0, 1):
        target = torch.full((1, 1, 1), label)
        loss = MODELS.build(dict(type='FocalLoss', gamma=gamma))(logits, target)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_each_alpha_weighs_its_class(logits, target) -> None:
    alpha = [0.1, 0.3, 0.5, 0.9]

    def expected(x):
        per_class = [
            sigmoid_focal_loss(x[:, c], positives(target)[:, c], alpha=alpha[c]) * (target != VOID)
            for c in range(K)
        ]
        return torch.stack(per_class).mean()

    same(dict(type='FocalLoss', alpha=alpha), logits, target, expected)


@pytest.mark.parametrize('weight', [None, WEIGHT])
@pytest.mark.parametrize('avg_non_ignore', [False, True])
def test_sigmoid_cross_entropy_of_coarse_logits(avg_non_ignore, weight, logits, target, monkeypatch) -> None:
    monkeypatch.setattr(classwise, 'CLASSES_AT_A_TIME', 3)

    def expected(x):
        fine = F.interpolate(x, target.shape[1:], mode='bilinear')
        pos_weight = None if weight is None else torch.tensor(weight)[:, None, None]
        losses = F.binary_cross_entropy_with_logits(
            fine, positives(target), pos_weight=pos_weight, reduction='none'
        )
        valid = (target != VOID)[:, None].expand_as(losses)
        return losses[valid].mean() if avg_non_ignore else (losses * valid).mean()

    config = dict(type='CrossEntropyLoss', use_sigmoid=True, class_weight=weight)
    same(dict(config, avg_non_ignore=avg_non_ignore), logits[..., :3, :4], target, expected)


def lovasz_by_sets(errors: np.ndarray, positive: np.ndarray) -> float:
    """Definition 1 of the paper: the Jaccard loss of growing sets of wrong pixels."""

    def jaccard_loss(wrong: set) -> float:
        true = set(np.flatnonzero(positive))
        return len(wrong) / len(true | wrong) if true | wrong else 0

    order = [int(i) for i in np.argsort(-errors)]
    sets = [set(order[:n]) for n in range(len(order) + 1)]
    gains = [jaccard_loss(more) - jaccard_loss(less) for less, more in zip(sets, sets[1:], strict=False)]
    return float(np.dot(errors[order], gains))


@pytest.mark.parametrize('classes', ['present', 'all', [0, 3]])
@pytest.mark.parametrize('per_image', [False, True])
def test_lovasz_equals_definition_by_sets(per_image, classes, logits, target) -> None:
    target[target == 3] = 0  # an absent class
    means = []
    for images in [[0], [1]] if per_image else [[0, 1]]:
        valid = target[images] != VOID
        scores = logits[images].softmax(1).permute(0, 2, 3, 1)[valid].numpy()
        labels = target[images][valid].numpy()
        chosen = {'present': sorted(set(labels)), 'all': range(K)}.get(str(classes), classes)
        values = [WEIGHT[c] * lovasz_by_sets(abs((labels == c) - scores[:, c]), labels == c) for c in chosen]
        means.append(np.mean(values))
    config = dict(type='LovaszLoss', classes=classes, per_image=per_image, class_weight=WEIGHT)
    assert MODELS.build(config)(logits, target, VOID).item() == pytest.approx(np.mean(means), rel=1e-5)
    if per_image:
        total = MODELS.build(dict(config, reduction='sum'))(logits, target, VOID).item()
        assert total == pytest.approx(sum(means), rel=1e-5)


def test_binary_lovasz_is_hinge_of_difference(target, logits) -> None:
    target[target > 1] = VOID
    two = logits[:, :2]
    valid = target != VOID
    labels = target[valid].numpy()
    margin = (two[:, 1] - two[:, 0])[valid].numpy()
    hinge = np.maximum(1 - margin * (2 * labels - 1), 0)
    loss = MODELS.build(dict(type='LovaszLoss', loss_type='binary'))(two, target, VOID)
    assert loss.item() == pytest.approx(lovasz_by_sets(hinge, labels == 1), rel=1e-5)


@pytest.mark.parametrize('config', ALL, ids=str)
def test_ignored_pixels_have_no_gradient(config, logits, target) -> None:
    logits.requires_grad_()
    loss = MODELS.build(config)(logits, target, VOID)
    loss.backward()
    per_pixel = logits.grad.abs().amax(1)
    assert per_pixel[target == VOID].max() == 0
    assert per_pixel[target != VOID].max() > 0
    changed = logits.detach() + 50 * (target == VOID)[:, None]
    torch.testing.assert_close(MODELS.build(config)(changed, target, VOID), loss.detach())


@pytest.mark.parametrize('config', ALL, ids=str)
def test_image_without_labels_gives_finite_loss_and_no_gradient(config, logits, target) -> None:
    logits.requires_grad_()
    loss = MODELS.build(config)(logits, torch.full_like(target, VOID), VOID)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize('label', [K, -1])
@pytest.mark.parametrize('config', ALL, ids=str)
def test_label_outside_classes_raises(config, label, logits, target) -> None:
    target[1, 2, 3] = label
    with pytest.raises((RuntimeError, IndexError), match='out of (bounds|range)'):
        MODELS.build(config)(logits, target, VOID)


@pytest.mark.parametrize('config', ALL, ids=str)
def test_loss_of_bfloat16_logits_is_float32(config, logits, target) -> None:
    rounded = logits.bfloat16()
    loss = MODELS.build(config)(rounded, target, VOID)
    torch.testing.assert_close(loss, MODELS.build(config)(rounded.float(), target, VOID), rtol=1e-6, atol=0)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(MODELS.build(config)(rounded, target, VOID), loss, rtol=1e-6, atol=0)


def pixel_losses(logits, target) -> tuple[torch.Tensor, torch.Tensor]:
    losses = F.cross_entropy(logits, target, ignore_index=VOID, reduction='none')
    return losses, torch.exp(-losses)


@pytest.mark.parametrize('min_kept', [5, 30])
def test_ohem_averages_over_unsure_pixels(min_kept, logits, target) -> None:
    def expected(x):
        losses, probability = pixel_losses(x, target)
        losses, probability = losses[target != VOID], probability[target != VOID]
        lowest = probability.argsort()[: max(min_kept, int((probability < 0.2).sum()))]
        weight = torch.tensor(WEIGHT)[target[target != VOID]]
        return (weight * losses)[lowest].mean()

    same(
        dict(type='OhemCrossEntropy', thres=0.2, min_kept=min_kept, class_weight=WEIGHT),
        logits,
        target,
        expected,
    )


@pytest.mark.parametrize('thresh', [None, 0.2])
@pytest.mark.parametrize('min_kept', [5, 15])
def test_sampler_drops_easy_pixels_but_keeps_denominator(thresh, min_kept, logits, target) -> None:
    def expected(x):
        losses, probability = pixel_losses(x, target)
        losses, probability = losses[target != VOID], probability[target != VOID]
        count = 2 * min_kept  # of the batch
        if thresh is not None:
            count = max(count, int((probability < thresh).sum()))
        return losses[probability.argsort()[:count]].sum() / target.numel()

    sampler = dict(type='OHEMPixelSampler', thresh=thresh, min_kept=min_kept)
    same(dict(type='CrossEntropyLoss', sampler=sampler), logits, target, expected)


def test_ohem_of_few_labelled_pixels_keeps_all(logits, target) -> None:
    loss = OhemCrossEntropy(min_kept=1000)(10 * logits, target, VOID)
    torch.testing.assert_close(loss, F.cross_entropy(10 * logits, target, ignore_index=VOID))


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='LovaszLoss', loss_type='multi'), "loss_type='multi' must be 'multi_class' or 'binary'"),
        (dict(type='LovaszLoss', classes='some'), "must be 'present', 'all' or a list"),
        (dict(type='LovaszLoss', per_image=True, reduction='none'), "must be 'mean' or 'sum'"),
        (dict(type='LovaszLoss', loss_type='binary', class_weight=[1, 2]), 'class_weight has no effect'),
        (dict(type='FocalLoss', use_sigmoid=False), 'use_sigmoid=True only'),
        (dict(type='OhemCrossEntropy', thres=70), 'the threshold 70 must be a probability'),
        (dict(type='OHEMPixelSampler', min_kept=0), 'min_kept=0 must be at least 1'),
        (
            dict(type='CrossEntropyLoss', use_sigmoid=True, sampler=dict(type='OHEMPixelSampler')),
            'remove one',
        ),
    ],
)
def test_wrong_argument_raises(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='TverskyLoss', class_weight=[1.0, 2.0]), 'class_weight has 2 entries'),
        (dict(type='FocalLoss', alpha=[0.5, 0.5]), 'alpha has 2 entries but the head predicts 4'),
        (dict(type='LovaszLoss', loss_type='binary'), 'needs two classes, but the head predicts 4'),
    ],
)
def test_wrong_number_of_classes_raises(config: dict, message: str, logits, target) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)(logits, target, VOID)


def test_sampler_is_built_from_config() -> None:
    loss = CrossEntropyLoss(sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=9))
    assert isinstance(loss.sampler, OHEMPixelSampler)
    assert (loss.sampler.thresh, loss.sampler.min_kept) == (0.7, 9)
