"""Link 1: both sides compute the same logits and gradients from the same weights."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from .inputs import ROUNDED, labels, normalised_image, round_weights, sample
from .job import Arrays, Job
from .side import Side
from .table import Row, distance, part, relative_difference, renamed, worst

READOUTS = ('project', 'add', 'ignore')
SIZES = ((512, 512), (384, 384), (480, 640), (512, 683))
LOGITS_TOLERANCE = 1e-5  # of the largest logit
GRADIENT_SIZE = SIZES[1]  # double precision takes memory
GRADIENT_TOLERANCE = 1e-4  # of the largest entry, parameter by parameter
SINGLE_TOLERANCE = 1e-3  # of the norm of all gradients


def produce(side: Side) -> Iterator[tuple[str, Arrays]]:
    """Compute logits in both modes, running statistics after training, and gradients of one loss."""
    for readout in READOUTS:
        model = side.build_model(f'model_{readout}', small=side.job.quick, readout=readout)
        arrays = _logits(model, 'eval') | _logits(model.train(), 'train')
        arrays |= {f'statistics.{name}': buffer.numpy() for name, buffer in _statistics(model).items()}
        yield readout, arrays | _gradients(side, model, readout)
    model = side.build_model('model_no_patch_bias', small=side.job.quick, patch_bias=False)
    yield 'no_patch_bias', _logits(model, 'eval', SIZES[:1])


@torch.no_grad()
def _logits(model: nn.Module, mode: str, sizes: tuple = SIZES) -> dict[str, np.ndarray]:
    return {
        f'{mode}.{height}x{width}': model(normalised_image(f'{height}x{width}', (height, width))).numpy()
        for height, width in sizes
    }


def _statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer for name, buffer in model.named_buffers() if '.running_' in name}


def _gradients(side: Side, model: nn.Module, readout: str) -> dict[str, np.ndarray]:
    """Compute gradients in double precision, because rounding can change the sign of ReLU inputs.

    For the first readout, also compute them in single precision. The peer repeats this with rounded weights,
    which shows how much two correct implementations may differ.
    """
    arrays = {}
    if readout == READOUTS[0]:
        arrays = _gradient(side, model, 'single')
        if side.scope == 'mmseg':
            state = copy.deepcopy(model.state_dict())
            round_weights(model)
            arrays |= _gradient(side, model, 'again')
            model.load_state_dict(state)
    return arrays | _gradient(side, model.double(), 'double')


def _gradient(side: Side, model: nn.Module, name: str) -> dict[str, np.ndarray]:
    model.zero_grad()
    image = normalised_image('gradient', GRADIENT_SIZE).to(next(model.parameters()).dtype)
    losses = model(image, [sample(side.samples, labels('gradient', GRADIENT_SIZE))], mode='loss')
    model.parse_losses(losses)[0].backward()
    return {f'{name}.{key}': parameter.grad.float().numpy() for key, parameter in model.named_parameters()}


def compare(case: str, theirs: Arrays, ours: Arrays, job: Job) -> list[Row]:
    """Return the rows of one case."""
    size = 'small model' if job.quick else 'ViT-B'
    if case == 'no_patch_bias':
        difference = relative_difference(theirs['eval.512x512'], ours['eval.512x512'])
        measure = f'{size} without patch bias (as the wheel has it), eval: logits at 512x512'
        return [Row('model', measure, difference, LOGITS_TOLERANCE)]
    rows = []
    for mode in ('eval', 'train'):
        known, found = part(theirs, f'{mode}.'), part(ours, f'{mode}.')
        name, difference = _worst_of(known, found)
        measure = f"{size}, '{case}', {mode}: logits at {len(known)} sizes, of the largest"
        rows.append(Row('model', measure, difference, LOGITS_TOLERANCE, f'worst: {name}'))
    known, found = renamed(part(theirs, 'statistics.')), part(ours, 'statistics.')
    name, difference = _worst_of(known, found)
    measure = f"{size}, '{case}': {len(known)} running statistics after 4 images"
    rows.append(Row('model', measure, difference, LOGITS_TOLERANCE, f'worst: {name}'))
    known, found = renamed(part(theirs, 'double.')), part(ours, 'double.')
    name, difference = _worst_of(known, found)
    measure = f"{size}, '{case}', float64: gradients of {len(known)} parameters, each of its largest"
    rows.append(Row('model', measure, difference, GRADIENT_TOLERANCE, f'worst: {name}'))
    if case == READOUTS[0]:
        rows.append(_single_precision(theirs, ours, f"{size}, '{case}'"))
    return rows


def _single_precision(theirs: Arrays, ours: Arrays, what: str) -> Row:
    known, again = (renamed(part(theirs, f'{name}.')) for name in ('single', 'again'))
    length = distance(known)
    difference = distance(known, part(ours, 'single.')) / length
    note = f'the reference, {ROUNDED}: {distance(known, again) / length:.2g}'
    return Row('model', f'{what}, float32: all gradients together', difference, SINGLE_TOLERANCE, note)


def _worst_of(theirs: Arrays, ours: Arrays) -> tuple[str, float]:
    """Return the array with the largest difference; a name that is missing on one side counts as NaN."""
    if not theirs and not ours:
        return 'nothing was computed', float('nan')
    differences = dict.fromkeys({**theirs, **ours}, float('nan'))
    differences |= {name: relative_difference(theirs[name], ours[name]) for name in theirs if name in ours}
    return worst(differences)
