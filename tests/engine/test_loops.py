"""The training loop, apart from resuming, which real runs show."""

from types import SimpleNamespace

from mmengine.hooks import EarlyStoppingHook, Hook, LoggerHook
from mmengine.logging import MessageHub

from dpt.engine.loops import VALIDATED, IterBasedTrainLoop
from dpt.engine.signals import ValidationStopped


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
