"""What a training tells of itself while it runs."""

from typing import Any

import torch
from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from dpt.engine.log_processor import LogProcessor
from dpt.registry import HOOKS

MOST_UNREAD = 1000
"""Iterations whose losses may stay on the device, where nobody asks for them."""


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """mmengine's hook, which does not wait for a GPU in each iteration.

    Losses on a GPU are kept there until a line is logged, a validation begins or the training ends, then all
    are read at once: to read one, the host waits until the GPU has finished the iteration, and has given it
    nothing to do after that. The values, and what the log averages over, are the same. Until then the message
    hub has not got them: a hook that looks there in each iteration calls :meth:`read` first, or takes its
    ``outputs``.
    """

    def __init__(self) -> None:
        self._unread: list[dict[str, Any]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Keep the losses of an iteration, or tell them where that costs no time."""
        if outputs is None:
            return
        self._unread.append({name: _kept(value) for name, value in outputs.items()})
        asked_for = isinstance(runner.log_processor, LogProcessor) and len(self._unread) < MOST_UNREAD
        if not (asked_for and any(map(_is_waited_for, outputs.values()))):
            self.read(runner)

    def read(self, runner: Runner) -> None:
        """Tell the losses of all iterations since the last time."""
        unread, self._unread = self._unread, []
        tensors = [value for outputs in unread for value in outputs.values() if isinstance(value, Tensor)]
        # One copy for all; single precision is exact in double.
        numbers = iter(torch.stack([one.reshape(()).double() for one in tensors]).tolist() if tensors else ())
        for outputs in unread:
            for name, value in outputs.items():
                number = next(numbers) if isinstance(value, Tensor) else value
                runner.message_hub.update_scalar(f'train/{name}', number)

    def before_train(self, runner: Runner) -> None:
        """Let the log line ask for the losses."""
        super().before_train(runner)
        if isinstance(runner.log_processor, LogProcessor):
            runner.log_processor.read_losses = self.read

    def before_val(self, runner: Runner) -> None:
        """Tell what the training has left before the validation."""
        self.read(runner)
        super().before_val(runner)

    def after_train(self, runner: Runner) -> None:
        """Tell what is left."""
        self.read(runner)
        super().after_train(runner)


def _kept(value: Any) -> Any:
    """Return a loss without its graph, which would hold memory; as a number where that costs no time."""
    if not isinstance(value, Tensor):
        return value
    return value.detach() if _is_waited_for(value) else value.item()


def _is_waited_for(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type != 'cpu'
