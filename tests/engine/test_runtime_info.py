"""RuntimeInfoHook: when losses are read from the device."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import LogProcessor as PlainLogProcessor

from dpt.engine import LogProcessor, RuntimeInfoHook
from dpt.engine import logging as engine_logging


def runner(processor: object, name: str) -> SimpleNamespace:
    return SimpleNamespace(
        log_processor=processor,
        message_hub=MessageHub(name),
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo={})),
        epoch=0,
        iter=0,
        max_epochs=1,
        max_iters=9,
        optim_wrapper=SimpleNamespace(),
    )


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat all tensors as if they were on a GPU."""
    monkeypatch.setattr(engine_logging, '_is_waited_for', lambda value: isinstance(value, torch.Tensor))


def step(hook: RuntimeInfoHook, run: SimpleNamespace, iteration: int) -> None:
    weight = torch.ones(1, requires_grad=True)
    outputs = dict(loss=weight.sum() * iteration / 3, acc=torch.tensor([iteration / 7]), number=0.5)
    hook.after_train_iter(run, iteration, {}, outputs)


def history(run: SimpleNamespace) -> dict:
    return {name: buffer.data[0].tolist() for name, buffer in run.message_hub.log_scalars.items()}


def test_losses_on_a_gpu_are_read_for_the_log_line(waits: None) -> None:
    hook, run = RuntimeInfoHook(), runner(LogProcessor(by_epoch=False), 'late')
    plain, other = RuntimeInfoHook(), runner(PlainLogProcessor(by_epoch=False), 'at once')
    hook.before_train(run)
    for iteration in range(5):
        step(hook, run, iteration)
        step(plain, other, iteration)
    assert history(run) == {}
    assert len(history(other)['train/loss']) == 5  # another log processor does not call read_losses
    assert not any(v.requires_grad for one in hook._unread for v in one.values() if hasattr(v, 'grad_fn'))
    run.log_processor.read_losses(run)
    assert history(run) == history(other)
    step(hook, run, 5)
    hook.after_train(run)
    assert history(run)['train/acc'][5] == pytest.approx(5 / 7)


def test_scalars_of_the_optimiser_are_logged_with_the_losses(waits: None) -> None:
    hook, run = RuntimeInfoHook(), runner(LogProcessor(by_epoch=False), 'norm')
    run.optim_wrapper = SimpleNamespace(scalars=dict(grad_norm=torch.tensor(2.5)))
    hook.before_train(run)
    step(hook, run, 1)
    assert history(run) == {}
    hook.read(run)
    assert history(run)['train/grad_norm'] == [2.5]


def test_the_number_of_unread_losses_is_limited(waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_logging, 'MOST_UNREAD', 3)
    hook, run = RuntimeInfoHook(), runner(LogProcessor(by_epoch=False), 'many')
    for iteration in range(4):
        step(hook, run, iteration)
    assert len(history(run)['train/loss']) == 3


def test_losses_on_a_cpu_are_read_at_once() -> None:
    hook, run = RuntimeInfoHook(), runner(LogProcessor(by_epoch=False), 'cpu')
    step(hook, run, 0)
    assert history(run)['train/number'] == [0.5]


def test_losses_on_the_host_are_stored_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_on_gpu(value: object) -> bool:
        return isinstance(value, torch.Tensor) and value.dim() == 0

    monkeypatch.setattr(engine_logging, '_is_waited_for', is_on_gpu)
    hook, run = RuntimeInfoHook(), runner(LogProcessor(by_epoch=False), 'both')
    step(hook, run, 1)
    # Tensors on two devices cannot be stacked.
    assert [name for name, value in hook._unread[0].items() if isinstance(value, torch.Tensor)] == ['loss']
    hook.read(run)
    assert history(run)['train/acc'] == [pytest.approx(1 / 7)]
