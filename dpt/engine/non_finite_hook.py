"""What happens when a loss or gradients are not finite."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from dpt.engine.checkpoint_files import write_checkpoint
from dpt.engine.checkpoint_state import run_state
from dpt.engine.loops import SAMPLES_SEEN
from dpt.registry import HOOKS

SKIPPED = 'skipped_steps'
"""Name, among what a checkpoint keeps of the run, of the number of steps left out so far."""
FOLDER = 'non_finite'
"""Folder in the work directory for what is needed to find the cause."""
_POLICIES = ('skip', 'stop')


class NonFiniteError(ValueError):
    """Training cannot go on, because losses or gradients are not finite."""


class _Step(NamedTuple):
    iteration: int
    skipped: Callable[[], bool]
    files: list[str]
    losses: dict[str, Tensor]

    @classmethod
    def of(cls, runner: Runner, skipped: bool | Tensor, batch: Any, outputs: dict | None) -> '_Step':
        losses = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items()}
        answer = _to_host(skipped) if isinstance(skipped, Tensor) else lambda: True
        return cls(runner.iter, answer, files_of(batch), losses)


def _to_host(flag: Tensor) -> Callable[[], bool]:
    """Begin to copy a flag to the host, and return what waits for the copy alone and tells the flag."""
    copy = flag.to('cpu', non_blocking=True)
    if not flag.is_cuda:
        return lambda: bool(copy)
    copied = torch.cuda.Event()
    copied.record()

    def answer() -> bool:
        copied.synchronize()  # until then the copy holds anything
        return bool(copy)

    return answer


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Count and report the steps that were left out because a loss or a gradient was not finite.

    The optimiser wrapper leaves them out (:class:`dpt.engine.finite_steps.FiniteSteps`), in all processes, so
    that the weights stay finite. Each is logged with the files of the batch, which are also written, with the
    losses, to ``non_finite/iter_<n>.json`` in the work directory. For the first ones the state stands beside
    it as ``iter_<n>.pth``: with ``--resume`` it repeats the very step. Where a GPU has decided by itself, its
    weights are those after the following step.

    Args:
        policy: ``'skip'`` to go on up to the bounds, ``'stop'`` to end with an error at the first one.
        max_consecutive: Steps in a row that may be left out before that is an error.
        max_total: Steps in all, resumed parts of the run included.
        states: How many states are written.

    Raises:
        ValueError: If the policy is another one.
    """

    priority = 'ABOVE_NORMAL'  # before the schedules take their step

    def __init__(
        self, policy: str = 'skip', *, max_consecutive: int = 10, max_total: int = 1000, states: int = 2
    ) -> None:
        if policy not in _POLICIES:
            raise ValueError(f'NonFiniteHook(policy={policy!r}): expected one of {", ".join(_POLICIES)}')
        self.policy, self.max_consecutive, self.max_total = policy, max_consecutive, max_total
        self.states = states
        self._consecutive = 0
        self._unread: _Step | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Look at this step, or, where a GPU decides, at the one before: it works on this one meanwhile."""
        wrapper = runner.optim_wrapper
        skipped = getattr(wrapper, 'skipped', False)
        before, self._unread = self._unread, None
        if before is not None:
            self._look(runner, before)
        if isinstance(skipped, Tensor):
            self._unread = _Step.of(runner, skipped, data_batch, outputs)
        elif skipped:
            self._look(runner, _Step.of(runner, skipped, data_batch, outputs))
        elif wrapper.should_update():
            self._consecutive = 0

    def after_train(self, runner: Runner) -> None:
        """Look at the last step."""
        before, self._unread = self._unread, None
        if before is not None:
            self._look(runner, before)

    def _look(self, runner: Runner, step: _Step) -> None:
        if not step.skipped():
            self._consecutive = 0
            return
        self._consecutive += 1
        total = runner.message_hub.get_info(SKIPPED, 0) + 1
        runner.message_hub.update_info(SKIPPED, total)
        losses = {name: repr(float(value)) for name, value in step.losses.items()}
        processes = all_gather_object(dict(files=step.files, losses=losses))
        report = self._write(runner, step.iteration, processes, total)
        faulty = [one for one in processes if not _is_finite(one['losses'])]
        kind = 'loss' if faulty else 'gradient'
        files = [name for one in faulty or processes for name in one['files']]
        message = f'iteration {step.iteration + 1}: {kind} not finite; files: {", ".join(files)} ({report})'
        if self.policy == 'stop':
            raise NonFiniteError(f"{message}. The weights are as before; policy='skip' would go on")
        if self._consecutive > self.max_consecutive or total > self.max_total:
            raise NonFiniteError(
                f'{message}. {self._consecutive} steps in a row and {total} in all were left out, more than '
                f'max_consecutive={self.max_consecutive} or max_total={self.max_total} allow: a lower '
                'learning rate, clip_grad or other images may help'
            )
        runner.logger.warning(f'{message}. Step left out, {total} so far')

    def _write(self, runner: Runner, iteration: int, processes: list[dict], total: int) -> Path:
        report = Path(runner.work_dir) / FOLDER / f'iter_{iteration}.json'
        if not is_main_process():
            return report
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(dict(iteration=iteration, processes=processes), indent=1) + '\n')
        if total <= self.states:
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            state = run_state(runner, meta, optimizer=True, param_scheduler=True)
            info = state['message_hub']['runtime_info']
            info[SAMPLES_SEEN] -= runner.train_loop.samples_per_iteration  # it begins with this one's
            write_checkpoint(state, report.with_suffix('.pth'))
        return report


def files_of(batch: Any) -> list[str]:
    """Return the image files of a batch, as far as its samples name them."""
    samples = batch.get('data_samples', ()) if isinstance(batch, Mapping) else ()
    return [str(getattr(sample, 'img_path', '')) for sample in samples]


def _is_finite(losses: dict[str, str]) -> bool:
    return all(torch.isfinite(torch.tensor(float(value))) for value in losses.values())
