"""FiniteSteps: a non-finite step changes nothing, and a finite step is the same as in mmengine."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper as PlainWrapper
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dpt.engine.optim import AmpOptimWrapper, OptimWrapper


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        self.register_buffer('exact', torch.tensor([0.1], dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean()


def batch(step: int) -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(step))


def setup(
    wrapper: type = OptimWrapper, fused: bool = False, **options: object
) -> tuple[nn.Module, PlainWrapper]:
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1, fused=fused)
    return model, wrapper(optimizer=optimizer, **options)


def train(model: nn.Module, wrapper: PlainWrapper, step: int, change: Callable | None = None) -> None:
    with wrapper.optim_context(model):
        loss = model(batch(step))
    wrapper.update_params(change(loss) if change else loss)


def state(model: nn.Module, wrapper: PlainWrapper) -> list[torch.Tensor]:
    """Copies of everything that a step may change: weights, statistics and optimiser state."""
    moments = [value for entry in wrapper.optimizer.state.values() for value in entry.values()]
    named = [value for name, value in model.state_dict().items() if 'num_batches' not in name]
    return [value.clone() for value in (*named, *moments)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


FAULTS = dict(
    loss=lambda loss: loss * torch.nan,
    infinite_loss=lambda loss: loss + torch.inf,  # the gradients are finite
    gradient=lambda loss: (
        loss + (loss.detach() - loss).abs().sqrt()
    ),  # the loss is finite, but its derivative is not
)


@pytest.mark.parametrize('fault', FAULTS)
@pytest.mark.parametrize('kind', ['plain', 'clip', 'bf16', 'fused', 'on_device', 'accumulate'])
def test_a_non_finite_step_changes_nothing(fault: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict = dict(
        clip=dict(clip_grad=dict(max_norm=1.0)),
        bf16=dict(wrapper=AmpOptimWrapper),
        accumulate=dict(accumulative_counts=2),
    ).get(kind, {})
    model, wrapper = setup(fused=kind in ('fused', 'on_device'), **options)
    if kind == 'on_device':
        monkeypatch.setattr(OptimWrapper, '_decides_on_device', lambda self, found: True)
    for step in range(4):
        train(model, wrapper, step)
        assert not wrapper.skipped
    before = state(model, wrapper)
    train(model, wrapper, 4, FAULTS[fault])
    if kind == 'accumulate':  # the fault is in the first of two iterations
        assert not wrapper.skipped
        train(model, wrapper, 5)
    assert bool(wrapper.skipped)
    assert same(state(model, wrapper), before)
    assert all(torch.isfinite(value).all() for value in state(model, wrapper))
    for step in range(6, 10):
        train(model, wrapper, step)
    assert not wrapper.skipped
    assert not same(state(model, wrapper), before)


def test_a_non_finite_input_does_not_change_batch_norm_statistics() -> None:
    model, wrapper = setup()
    train(model, wrapper, 0)
    before = state(model, wrapper)
    with wrapper.optim_context(model):
        loss = model(batch(1).fill_(torch.nan))
    assert torch.isnan(model.layers[1].running_mean).all()
    wrapper.update_params(loss)
    assert wrapper.skipped
    assert same(state(model, wrapper), before)


@pytest.mark.parametrize('kind', ['plain', 'clip', 'fused', 'on_device', 'accumulate'])
def test_finite_steps_equal_those_of_mmengine_exactly(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict = dict(clip=dict(clip_grad=dict(max_norm=0.1)), accumulate=dict(accumulative_counts=2))
    fused = kind in ('fused', 'on_device')
    if kind == 'on_device':
        monkeypatch.setattr(OptimWrapper, '_decides_on_device', lambda self, found: True)
    states = []
    for wrapper_type in (OptimWrapper, PlainWrapper):
        model, wrapper = setup(wrapper_type, fused, **_copy(options.get(kind, {})))
        for step in range(6):
            train(model, wrapper, step)
        states.append(state(model, wrapper))
    assert same(*states)


def _copy(options: dict) -> dict:
    return {key: dict(value) if isinstance(value, dict) else value for key, value in options.items()}


def scaled(initial: float, **options: object) -> tuple[nn.Module, AmpOptimWrapper]:
    model, wrapper = setup(AmpOptimWrapper, **options)
    wrapper.loss_scaler = torch.amp.GradScaler('cpu', enabled=True, init_scale=initial)
    return model, wrapper


@pytest.mark.parametrize('options', [dict(max_norm=0.1), dict(max_norm=9.0), dict(max_norm=1, norm_type=1)])
@pytest.mark.parametrize('scale', [None, 1024.0])
def test_the_clipped_norm_is_that_of_mmengine(options: dict, scale: float | None) -> None:
    plain_model, plain = setup(PlainWrapper, clip_grad=dict(options))
    model, wrapper = (
        setup(clip_grad=dict(options)) if scale is None else scaled(scale, clip_grad=dict(options))
    )
    for step in range(3):
        train(plain_model, plain, step)
        train(model, wrapper, step)
        norm = wrapper.scalars['grad_norm']  # still a tensor: to read it, the host would wait
        expected = plain.message_hub.get_scalar('train/grad_norm').current()
        assert norm.item() == pytest.approx(expected, 1e-6 if scale is None else 0.02)  # bfloat16
    if scale is None:
        assert same(state(model, wrapper), state(plain_model, plain))


class Norms(TorchDispatchMode):
    """Count the operations that compute norms of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.count += func._schema.name in ('aten::linalg_vector_norm', 'aten::_foreach_norm')
        return func(*args, **(kwargs or {}))


def test_clipping_uses_the_norm_that_finds_faults() -> None:
    counts = []
    for options in ({}, dict(clip_grad=dict(max_norm=0.1))):
        model, wrapper = setup(**options)
        with Norms() as norms:
            train(model, wrapper, 0)
        counts.append(norms.count)
    assert counts[0] == counts[1] > 0


def test_overflows_that_the_float16_scaler_handles_are_no_faults() -> None:
    model, wrapper = scaled(1024.0)
    train(model, wrapper, 0)
    before = state(model, wrapper)
    train(model, wrapper, 1, FAULTS['gradient'])
    assert not bool(wrapper.skipped)
    assert wrapper.loss_scaler.get_scale() == 512
    weights = len(model.state_dict()) - 1
    assert same(state(model, wrapper)[weights:], before[weights:])


@pytest.mark.parametrize(('fault', 'scale'), [('loss', 1024.0), ('infinite_loss', 1024.0), ('gradient', 1.0)])
def test_faults_with_a_scaler_are_skipped(fault: str, scale: float) -> None:
    model, wrapper = scaled(scale)
    train(model, wrapper, 0)
    assert not bool(wrapper.skipped)
    before = state(model, wrapper)
    train(model, wrapper, 1, FAULTS[fault])
    assert bool(wrapper.skipped)
    assert same(state(model, wrapper), before)


def test_the_scale_is_read_without_synchronising(monkeypatch: pytest.MonkeyPatch) -> None:
    model, wrapper = scaled(1.0)
    train(model, wrapper, 0)
    monkeypatch.setattr(torch.amp.GradScaler, 'get_scale', lambda self: pytest.fail('the host waits'))
    train(model, wrapper, 1, FAULTS['gradient'])
    assert bool(wrapper.skipped)
