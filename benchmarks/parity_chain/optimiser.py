"""Link 4: both sides have the same parameter groups, learning rates, and results of twenty steps."""

from collections.abc import Iterator

import numpy as np
import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from .inputs import ROUNDED, labels, raw_image, round_weights, sample
from .job import Arrays, Job
from .side import Side
from .table import Row, distance, part, relative_difference, renamed

ITERATIONS = (0, 1, 750, 1499, 1500, 1501, 80_000, 159_999)
STEPS = 20
FIRST_STEP = 1490  # the steps span the end of the warm-up and the start of the decay
SIZE = (220, 250)
PAD_TO = (224, 256)
SETTINGS = ('lr', 'weight_decay', 'eps', 'amsgrad', 'beta1', 'beta2')
LOSS_TOLERANCE = 1e-4


def produce(side: Side) -> Iterator[tuple[str, Arrays]]:
    """Build the optimiser and schedule of the config, and train with them."""
    model = side.build_model('optimiser', small=side.job.quick)
    yield 'groups', _settings(model, build_optim_wrapper(model, side.config.optim_wrapper))
    yield 'schedule', {'lr': _learning_rates(side)}
    arrays = _train(side)
    if side.scope == 'mmseg':
        again = _train(side, rounded=True)
        arrays |= {f'again.{name}': values for name, values in again.items() if not name.startswith('moved.')}
    yield 'steps', arrays


def _settings(model: nn.Module, wrapper: OptimWrapper) -> dict[str, np.ndarray]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    settings = {'type': np.array(type(wrapper.optimizer).__name__)}
    for group in wrapper.optimizer.param_groups:
        beta1, beta2 = group['betas']
        values = [{**group, 'beta1': beta1, 'beta2': beta2}[key] for key in SETTINGS]
        for parameter in group['params']:
            settings[f'parameter.{names[id(parameter)]}'] = np.array(values, dtype=np.float64)
    return settings


def _schedulers(side: Side, optimizer: torch.optim.Optimizer) -> list:
    return [
        PARAM_SCHEDULERS.build(config, default_args=dict(optimizer=optimizer))
        for config in side.config.param_scheduler
    ]


def _learning_rates(side: Side) -> np.ndarray:
    lr = side.config.optim_wrapper.optimizer.lr
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=lr)
    schedulers = _schedulers(side, optimizer)
    rates = {}
    for iteration in range(max(ITERATIONS) + 1):
        if iteration in ITERATIONS:
            rates[iteration] = optimizer.param_groups[0]['lr']
        optimizer._opt_called = True  # avoids a warning, because only the schedule is stepped
        for scheduler in schedulers:
            scheduler.step()
    return np.array([rates[iteration] for iteration in ITERATIONS])


def _train(side: Side, rounded: bool = False) -> dict[str, np.ndarray]:
    """Train the small model with the framework's ``train_step``, optionally from rounded weights."""
    model = side.build_model('steps_again' if rounded else 'steps', small=True, pad_to=PAD_TO).train()
    if rounded:
        round_weights(model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    wrapper = build_optim_wrapper(model, side.config.optim_wrapper)
    schedulers = _schedulers(side, wrapper.optimizer)
    for scheduler in schedulers:
        for _ in range(FIRST_STEP):
            scheduler.step()
    losses, rates = [], []
    for step in range(STEPS):
        rates.append(wrapper.optimizer.param_groups[0]['lr'])
        logged = model.train_step(_batch(side, step), wrapper)
        losses.append(float(logged['loss']))
        for scheduler in schedulers:
            scheduler.step()
    arrays = {f'weight.{name}': parameter.detach().numpy() for name, parameter in model.named_parameters()}
    arrays |= {f'moved.{name}': (p.detach() - before[name]).numpy() for name, p in model.named_parameters()}
    return arrays | {'losses': np.array(losses), 'rates': np.array(rates)}


def _batch(side: Side, step: int) -> dict:
    names = [f'step{step % 4}.{i}' for i in range(2)]  # repeat four batches, so that the loss decreases
    return dict(
        inputs=[raw_image(name, SIZE) for name in names],
        data_samples=[sample(side.samples, labels(name, SIZE)) for name in names],
    )


def compare(case: str, theirs: Arrays, ours: Arrays, job: Job) -> list[Row]:
    """Return the rows of one case."""
    if case == 'groups':
        return _compare_groups(theirs, ours, job)
    if case == 'schedule':
        measure = f'learning rate at iterations {", ".join(map(str, ITERATIONS))}, relative'
        pairs = zip(theirs['lr'], ours['lr'], strict=True)
        difference = max(relative_difference(*map(np.atleast_1d, pair)) for pair in pairs)
        return [Row('optimiser', measure, difference, 1e-12)]
    again = part(theirs, 'again.')
    own = _relative_curve(theirs['losses'], again['losses'])
    note = f'{theirs["losses"][0]:.4f} to {theirs["losses"][-1]:.4f}; the reference, {ROUNDED}: {own:.2g}'
    rates = relative_difference(theirs['rates'], ours['rates'])
    curve = _relative_curve(theirs['losses'], ours['losses'])
    return [
        Row('optimiser', f'small model, {STEPS} steps from iteration {FIRST_STEP}: rates', rates, 1e-12),
        Row('optimiser', f'small model, {STEPS} steps: loss curve, relative', curve, LOSS_TOLERANCE, note),
        *_compare_weights(theirs, ours),
    ]


def _relative_curve(theirs: np.ndarray, ours: np.ndarray) -> float:
    return float(np.abs(ours / theirs - 1).max()) if theirs.shape == ours.shape else float('nan')


def _compare_groups(theirs: Arrays, ours: Arrays, job: Job) -> list[Row]:
    size = 'small model' if job.quick else 'ViT-B'
    known, found = renamed(part(theirs, 'parameter.')), part(ours, 'parameter.')
    unequal = [
        name
        for name in {**known, **found}
        if name not in known or name not in found or not np.array_equal(known[name], found[name])
    ]
    free = sum(values[SETTINGS.index('weight_decay')] == 0 for values in known.values())
    measure = f'{size}: parameters of {len(known)} whose {", ".join(SETTINGS)} differ'
    note = f'not decayed: {free}' + (f'; differing: {", ".join(sorted(unequal)[:5])}' if unequal else '')
    kind = float(str(theirs['type']) != str(ours['type']))
    return [
        Row('optimiser', measure, len(unequal) if known else float('nan'), 0, note),
        Row('optimiser', f'kind of optimiser ({theirs["type"]}) that differs', kind, 0),
    ]


def _compare_weights(theirs: Arrays, ours: Arrays) -> list[Row]:
    known, moved = renamed(part(theirs, 'weight.')), renamed(part(theirs, 'moved.'))
    found = part(ours, 'weight.')
    if set(known) != set(found) or any(known[name].shape != found[name].shape for name in known):
        return [Row('optimiser', 'names and shapes of the weights after', float('nan'), 0)]
    again = renamed(part(theirs, 'again.weight.'))
    rows = []
    # The second tolerance is larger because Adam may turn a rounding error near zero into a full step.
    for words, scale, tolerance in (
        ('relative', known, LOSS_TOLERANCE),
        ('of their change', moved, 1e-2),
    ):
        apart, own = (distance(known, other) / distance(scale) for other in (found, again))
        measure = f'small model, {STEPS} steps: all weights after, {words}'
        rows.append(Row('optimiser', measure, apart, tolerance, f'the reference, {ROUNDED}: {own:.2g}'))
    return rows
