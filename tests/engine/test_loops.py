"""The training loop, apart from resuming, which real runs show."""

from types import SimpleNamespace

import pytest
from mmengine.hooks import EarlyStoppingHook, Hook, LoggerHook
from mmengine.logging import MessageHub
from torch import nn

from dpt.engine import unwrapped
from dpt.engine.loop import VALIDATED, IterBasedTrainLoop
from dpt.engine.stop import ValidationStopped


class Swapped(Hook):
    """Changes something for the validation, as EMAHook does the weights."""

    swapped = False

    def before_val_epoch(self, runner: object) -> None:
        self.swapped = True

    def after_val_epoch(self, runner: object, metrics: dict | None = None) -> None:
        self.swapped = False


def test_hooks_take_back_what_they_changed_for_a_validation_that_was_broken_off() -> None:
    hook = Swapped()

    def broken_off() -> None:
        hook.before_val_epoch(runner)
        raise ValidationStopped

    runner = SimpleNamespace(
        # The others would complain that there are no metrics.
        hooks=[hook, LoggerHook(), EarlyStoppingHook(monitor='mIoU', strict=True)],
        message_hub=MessageHub('test_loops'),
        val_loop=SimpleNamespace(run=broken_off),
    )
    loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    loop._runner, loop._iter, loop._max_iters, loop.val_begin, loop.val_interval = runner, 3, 9, 1, 3
    loop._validate_if_due()
    assert not hook.swapped
    assert runner.message_hub.get_info(VALIDATED) == -1


class Frozen(nn.Module):
    """Keeps its part in evaluation mode, once it is told of the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.told = nn.Dropout(), 0

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.part.eval()
        self.told += 1
        return self


@pytest.mark.parametrize('wrapped', [False, True])
def test_the_model_is_told_of_training_at_the_start_and_after_a_validation_alone(
    wrapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = Frozen(), []
    monkeypatch.setattr(unwrapped, 'is_model_wrapper', lambda module: isinstance(module, nn.DataParallel))
    assert model.part.training  # as built

    def run_iter(_: object) -> None:
        seen.append((model.training, model.part.training))
        loop._iter += 1
        if loop._iter == 2:
            model.eval()  # as hooks do that predict, whose wrapper learns nothing of it

    loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    loop._runner = SimpleNamespace(
        model=nn.DataParallel(model) if wrapped else model,
        message_hub=MessageHub('mode'),
        call_hook=lambda *_, **__: None,
        val_loop=None,
    )
    loop._iter, loop._max_iters, loop.stop_training, loop.val_interval = 0, 5, False, 10
    loop.dynamic_milestones, loop.dynamic_intervals = [0], [10]
    loop.dataloader = SimpleNamespace(batch_size=1, sampler=SimpleNamespace(start=0))
    loop._enter_order, loop.run_iter = lambda: None, run_iter
    loop.dataloader = type('Loader', (), dict(loop.dataloader.__dict__, __iter__=lambda _: iter(range(9))))()
    loop.run()
    assert seen == [(True, False)] * 5
    assert model.told == 3  # eval() tells, too
