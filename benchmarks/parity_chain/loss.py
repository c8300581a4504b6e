"""Link 2: both sides compute the same losses and logged accuracy, with ignored pixels."""

from collections.abc import Iterator

import numpy as np
import torch

from .inputs import generator, labels, normalised_image, sample
from .job import Arrays, Job
from .side import Side
from .table import Row, absolute_difference, relative_difference

IGNORED = (0.0, 0.1, 0.9, 1.0)  # shares of the blocks of the label map
SIZE = (96, 130)
LOSS_TOLERANCE = 1e-5  # relative
TOLERANCE_WITH_TIES = 1e-3  # relative
ACCURACY_TOLERANCE = 1e-4  # percentage points
FEW = 5  # classes, so that each has a weight below
WEIGHTS = [0.5, 1.0, 2.0, 0.1, 1.5]
LOSSES: dict[str, dict] = {
    'sigmoid': dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=0.4),
    'sigmoid_labelled_only': dict(type='CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True),
    'ohem_sampler': dict(
        type='CrossEntropyLoss', sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=800)
    ),
    'ohem_sampler_unsure': dict(
        type='CrossEntropyLoss',
        avg_non_ignore=True,
        sampler=dict(type='OHEMPixelSampler', thresh=0.1, min_kept=800),
    ),
    'ohem_sampler_highest': dict(
        type='CrossEntropyLoss', sampler=dict(type='OHEMPixelSampler', min_kept=800)
    ),
    'ohem': dict(type='OhemCrossEntropy', thres=0.2, min_kept=100, class_weight=WEIGHTS),
    'dice': dict(type='DiceLoss', loss_weight=3.0),
    'dice_softmax': dict(type='DiceLoss', use_sigmoid=False, eps=1.0),
    'dice_naive_without_a_class': dict(type='DiceLoss', naive_dice=True, ignore_index=0),
    'focal': dict(type='FocalLoss', gamma=2.0, alpha=0.25),
    'focal_weighted': dict(
        type='FocalLoss', gamma=1.5, alpha=[0.1, 0.3, 0.5, 0.7, 0.9], class_weight=WEIGHTS
    ),
    'tversky': dict(type='TverskyLoss', loss_weight=0.5),
    'tversky_weighted': dict(type='TverskyLoss', alpha=0.6, beta=0.4, smooth=10, class_weight=WEIGHTS),
    'lovasz': dict(type='LovaszLoss', reduction='none', class_weight=WEIGHTS),
    'lovasz_per_image': dict(type='LovaszLoss', per_image=True, classes=[0, 3]),
    'lovasz_all_sum': dict(type='LovaszLoss', per_image=True, classes='all', reduction='sum'),
    'lovasz_binary': dict(type='LovaszLoss', loss_type='binary', reduction='none'),
}


def produce(side: Side) -> Iterator[tuple[str, Arrays]]:
    """Compute losses and accuracies of the small model for batches of two images."""
    for case, avg_non_ignore in (('published', False), ('labelled_only', True)):
        model = side.build_model(f'loss_{case}', small=True, avg_non_ignore=avg_non_ignore).train()
        images = torch.cat([normalised_image(f'loss{i}', SIZE) for i in range(2)])
        arrays = {}
        for share in IGNORED:
            samples = [sample(side.samples, labels(f'loss{i}', SIZE, ignored=share)) for i in range(2)]
            with torch.no_grad():
                losses = model(images, samples, mode='loss')
            arrays |= {f'{share}.{name}': value.numpy().reshape(()) for name, value in losses.items()}
        yield case, arrays
    for case, config in LOSSES.items():
        yield case, _values_and_gradients(side, config, 2 if case.endswith('binary') else FEW)


def _values_and_gradients(side: Side, config: dict, classes: int) -> Arrays:
    """Compute a loss of random logits of two images, and its gradient."""
    arrays = {}
    for share in IGNORED[:-1]:  # without labelled pixels, some losses of the reference fail or are NaN
        target = np.stack([labels(f'loss{i}', SIZE, classes=classes, ignored=share) for i in range(2)])
        noise = generator('logits').standard_normal((2, classes, *SIZE), dtype=np.float32)
        logits = torch.from_numpy(2 * noise).requires_grad_()
        value = side.loss(config, logits, torch.from_numpy(target))
        value.backward()
        arrays |= {
            f'{share}.value': value.detach().numpy().reshape(()),
            f'{share}.gradient': logits.grad.numpy(),
        }
    return arrays


def compare(case: str, theirs: Arrays, ours: Arrays, job: Job) -> list[Row]:
    """Return the rows of one case."""
    if case in LOSSES:
        return [_row_of_loss(case, kind, theirs, ours) for kind in ('value', 'gradient')]
    mean = 'mean over all pixels' if case == 'published' else 'mean over labelled pixels (avg_non_ignore)'
    shares = ', '.join(f'{share:.0%}' for share in IGNORED)
    losses = [np.array([side[f'{share}.decode.loss_ce'] for share in IGNORED]) for side in (theirs, ours)]
    rows = [
        Row('loss', f'small model, {mean}: {shares} ignored', relative_difference(*losses), LOSS_TOLERANCE)
    ]
    # Excludes the case without any labelled pixel, for which the reference logs 100 % and dpt 0.
    shares = ', '.join(f'{share:.0%}' for share in IGNORED[:-1])
    logged = [
        np.array([side[f'{share}.decode.acc_seg'] for share in IGNORED[:-1]]) for side in (theirs, ours)
    ]
    measure = f'small model, logged accuracy in percent: {shares} ignored'
    return [*rows, Row('loss', measure, absolute_difference(*logged), ACCURACY_TOLERANCE)]


def _row_of_loss(case: str, kind: str, theirs: Arrays, ours: Arrays) -> Row:
    shares = ', '.join(f'{share:.0%}' for share in IGNORED[:-1])
    found = [np.stack([side[f'{share}.{kind}'] for share in IGNORED[:-1]]) for side in (theirs, ours)]
    measure = f'{case.replace("_", " ")}, {kind}: {shares} ignored'
    ties = case.startswith('lovasz') and kind == 'gradient'
    note = 'the order of pixels with equal errors is arbitrary' if ties else ''
    tolerance = TOLERANCE_WITH_TIES if ties else LOSS_TOLERANCE
    return Row('loss', measure, relative_difference(*found), tolerance, note)
