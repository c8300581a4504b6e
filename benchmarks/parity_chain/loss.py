"""Link 2: both sides compute the same loss and logged accuracy, with ignored pixels."""

from collections.abc import Iterator

import numpy as np
import torch

from .inputs import labels, normalised_image, sample
from .job import Arrays, Job
from .side import Side
from .table import Row, absolute_difference, relative_difference

IGNORED = (0.0, 0.1, 0.9, 1.0)  # shares of the blocks of the label map
SIZE = (96, 130)
LOSS_TOLERANCE = 1e-5  # relative
ACCURACY_TOLERANCE = 1e-4  # percentage points


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


def compare(case: str, theirs: Arrays, ours: Arrays, job: Job) -> list[Row]:
    """Return the rows of one case."""
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
