"""Skip and report steps whose loss or gradients are not finite."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from dpt.engine.checkpointing import has_updated, run_state, write_checkpoint
from dpt.engine.loop import EPOCH_ITERATION, SAMPLES_SEEN
from dpt.engine.sharding import is_sharded, whole_tensors
from dpt.registry import HOOKS

SKIPPED = 'skipped_steps'
"""Entry of a checkpoint's message hub: the number of steps skipped so far."""
IN_A_ROW = 'skipped_in_a_row'
"""Entry of the message hub: the number of steps skipped since the last one that was taken."""
FOLDER = 'non_finite'
"""Folder in the work directory with reports and states of skipped steps."""
_POLICIES = ('skip', 'stop')


class NonFiniteError(ValueError):
    """Too many steps had a loss or gradient that is not finite."""


class _Step(NamedTuple):
    iteration: int
    skipped: Callable[[], bool]
    batches: list[tuple[list[str], dict[str, Tensor]]]
    """Image files and losses of each accumulated batch."""


def _to_host(flag: Tensor) -> Callable[[], bool]:
    """Start copying a flag to the host; return a function that waits for the copy and returns it."""
    copy = flag.to('cpu', non_blocking=True)
    if not flag.is_cuda:
        return lambda: bool(copy)
    copied = torch.cuda.Event()
    copied.record()

    def answer() -> bool:
        copied.synchronize()  # before this the copy is undefined
        return bool(copy)

    return answer


class FiniteSteps:
    """Mixin for optimiser wrappers that skips steps whose loss or gradients are not finite in any process.

    A skipped step does not change parameters, optimiser state, or running means and variances of batch norms.
    A finite step is the same as without this class.

    A fused optimiser on a GPU skips the step on the device, through ``found_inf``, without synchronising;
    with other optimisers the host waits before each step. The gradient scaler of float16 expects overflows
    and lowers its scale, so overflows count as faults only at a scale of 1 or less.
    """

    skipped: bool | Tensor = False
    """Whether the last step was skipped; may be a boolean tensor on a GPU."""

    scalars: Mapping[str, Tensor] = MappingProxyType({})
    """Values of the last step to log, such as ``grad_norm``; RuntimeInfoHook reads them with the losses."""

    _norm: Tensor
    """Norm of all gradients of the last step, without the factor of a gradient scaler."""

    _loss_fault: bool | Tensor | None = None
    _statistics: list[Tensor] | None = None
    _statistics_before: Tensor | None = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Save the batch norm statistics, then enter mmengine's context for a forward pass."""
        if self._statistics is None:
            self._statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if self._statistics and self._loss_fault is None:  # the first pass since the last step
            self._statistics_before = _flat(self._statistics)
        with super().optim_context(model):  # type: ignore[misc]
            yield

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None):
        """Backpropagate ``loss``; take a step unless gradients are still being accumulated."""
        fault = _not_finite(loss.detach())
        self._loss_fault = fault if self._loss_fault is None else self._loss_fault | fault
        self.skipped, self.scalars = False, {}
        super().update_params(loss, step_kwargs, zero_kwargs)  # type: ignore[misc]

    def step(self, **kwargs) -> None:
        """Take a step if the loss and all gradients are finite.

        Args:
            **kwargs: Arguments of ``torch.optim.Optimizer.step``.
        """
        optimizer = self.optimizer  # type: ignore[attr-defined]
        groups = (group['params'] for group in optimizer.param_groups)
        gradients = [p.grad for group in groups for p in group if p.grad is not None]
        fault = False if self._loss_fault is None else self._loss_fault
        self._loss_fault = None
        self._norm = nn.utils.get_total_norm(gradients)
        scaler = getattr(self, 'loss_scaler', None)
        if scaler is not None and scaler.is_enabled():
            self._step_with_scaler(scaler, fault, gradients, kwargs)
            return
        fault = _in_any_process(fault | _not_finite(whole_tensors(self._norm)))
        if isinstance(fault, Tensor) and self._decides_on_device(fault):
            self._restore_where(fault)
            self.skipped = fault
            optimizer.found_inf = fault.float()
            try:
                super().step(**kwargs)  # type: ignore[misc]
            finally:
                del optimizer.found_inf
            return
        self.skipped = bool(fault)
        if self.skipped:
            self._restore_where(torch.as_tensor(fault))
        else:
            super().step(**kwargs)  # type: ignore[misc]

    def _step_with_scaler(
        self, scaler: torch.amp.GradScaler, fault: bool | Tensor, gradients: list[Tensor], kwargs: dict
    ) -> None:
        scale = scaler._get_scale_async()  # get_scale() would synchronise
        if scale is not None:
            fault = fault | ((scale <= 1) & _not_finite(self._norm))
            self._norm = self._norm / scale  # of the gradients that will be clipped
        fault = torch.as_tensor(_in_any_process(fault))
        if gradients:  # a single NaN makes the scaler skip the step
            one = min(gradients, key=Tensor.numel)
            one.copy_(torch.where(fault, torch.nan, one))
        self._restore_where(fault)
        self.skipped = fault
        super().step(**kwargs)  # type: ignore[misc]

    def _clip_grad(self) -> None:
        """Clip as mmengine does, but with the norm that :meth:`step` has computed, and without reading it."""
        settings = self.clip_grad_kwargs  # type: ignore[attr-defined]
        groups = self.optimizer.param_groups  # type: ignore[attr-defined]
        parameters = [p for group in groups for p in group['params'] if p.grad is not None]
        if 'max_norm' in settings and settings.get('norm_type', 2) == 2:
            norm = self._norm
            nn.utils.clip_grads_with_norm_(parameters, settings['max_norm'], norm, settings.get('foreach'))
        else:
            norm = self.clip_func(parameters, **settings)  # type: ignore[attr-defined]
        if norm is not None:
            self.scalars = {self.grad_name: whole_tensors(norm.detach())}  # type: ignore[attr-defined]

    def _decides_on_device(self, fault: Tensor) -> bool:
        # The condition under which torch's GradScaler lets the optimiser skip the step. A plain flag does not
        # mix with sharded parameters, which are DTensors, all of them.
        optimizer = self.optimizer  # type: ignore[attr-defined]
        sharded = isinstance(optimizer.param_groups[0]['params'][0], DTensor)
        return fault.is_cuda and not sharded and getattr(optimizer, '_step_supports_amp_scaling', False)

    def _restore_where(self, fault: Tensor) -> None:
        if self._statistics and self._statistics_before is not None:
            kept = torch.where(fault, self._statistics_before, _flat(self._statistics))
            parts = kept.split([buffer.numel() for buffer in self._statistics])
            views = [part.view_as(buffer) for part, buffer in zip(parts, self._statistics, strict=True)]
            torch._foreach_copy_(self._statistics, views)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1).double() for tensor in tensors])


def _not_finite(value: Tensor) -> bool | Tensor:
    """Whether a scalar is not finite; returns a tensor on a GPU to avoid synchronising."""
    return not math.isfinite(value.item()) if value.device.type == 'cpu' else ~torch.isfinite(value)


def _in_any_process(fault: bool | Tensor) -> bool | Tensor:
    """Whether any process has a fault."""
    if get_world_size() == 1:
        return fault
    found = torch.as_tensor(fault).float()
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return found > 0


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Count and report the steps that :class:`FiniteSteps` skips.

    Each skipped step is logged with the image files of the batch. A report with the files and losses is
    written to ``non_finite/iter_<n>.json`` in the work directory. For the first skipped steps a checkpoint
    ``iter_<n>.pth`` is also written, and ``--resume`` from it repeats the step; not if gradients of several
    batches were accumulated, or if the GPU skipped the step without synchronising.

    Args:
        policy: ``'skip'`` to continue, within the limits below; ``'stop'`` to raise an error at the first
            skipped step.
        max_consecutive: Maximum number of skipped steps in a row; more raise an error.
        max_total: Maximum number of skipped steps of the run, including the parts before resuming.
        states: Maximum number of checkpoints to write.

    Raises:
        ValueError: If ``policy`` is unknown.
    """

    priority = 'ABOVE_NORMAL'  # before EMAHook and the parameter schedulers

    def __init__(
        self, policy: str = 'skip', *, max_consecutive: int = 10, max_total: int = 1000, states: int = 2
    ) -> None:
        if policy not in _POLICIES:
            raise ValueError(f'NonFiniteHook(policy={policy!r}): expected one of {", ".join(_POLICIES)}')
        self.policy, self.max_consecutive, self.max_total = policy, max_consecutive, max_total
        self.states = states
        self._batches: list[tuple[list[str], dict[str, Tensor]]] = []  # since the last step
        self._unread: _Step | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Report this step if it was skipped; if a GPU is still computing it, report the previous step."""
        self.before_checkpoint(runner)
        losses = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items()}
        self._batches.append((files_of(data_batch), losses))
        if not has_updated(runner.optim_wrapper):
            return
        batches, self._batches = self._batches, []
        skipped = getattr(runner.optim_wrapper, 'skipped', False)
        if isinstance(skipped, Tensor):
            self._unread = _Step(runner.iter, _to_host(skipped), batches)
        else:
            self._report(runner, _Step(runner.iter, lambda: skipped, batches), repeatable=len(batches) == 1)

    def before_checkpoint(self, runner: Runner) -> None:
        """Report the previous step, in all processes, so that a checkpoint counts it."""
        before, self._unread = self._unread, None
        if before is not None:
            self._report(runner, before)

    def after_train(self, runner: Runner) -> None:
        """Report the last step."""
        self.before_checkpoint(runner)

    def _report(self, runner: Runner, step: _Step, *, repeatable: bool = False) -> None:
        hub = runner.message_hub
        if not step.skipped():
            if hub.get_info(IN_A_ROW, 0):
                hub.update_info(IN_A_ROW, 0)
            return
        total, in_a_row = hub.get_info(SKIPPED, 0) + 1, hub.get_info(IN_A_ROW, 0) + 1
        hub.update_info(SKIPPED, total)
        hub.update_info(IN_A_ROW, in_a_row)
        own = [
            dict(files=files, losses={name: repr(float(value)) for name, value in losses.items()})
            for files, losses in step.batches
        ]
        batches = [one for process in all_gather_object(own) for one in process]
        repeatable = repeatable and not is_sharded(runner.model)  # only rank 0 writes
        report = self._write(runner, step.iteration, batches, repeatable and total <= self.states)
        faulty = [one for one in batches if not _is_finite(one['losses'])]
        kind = 'loss' if faulty else 'gradient'
        files = [name for one in faulty or batches for name in one['files']]
        message = f'iteration {step.iteration + 1}: {kind} not finite; files: {", ".join(files)} ({report})'
        if self.policy == 'stop':
            raise NonFiniteError(f"{message}. The weights are unchanged; policy='skip' would continue")
        if in_a_row > self.max_consecutive or total > self.max_total:
            raise NonFiniteError(
                f'{message}. {in_a_row} steps in a row and {total} in total were skipped, exceeding '
                f'max_consecutive={self.max_consecutive} or max_total={self.max_total}: try a lower '
                'learning rate or clip_grad, and check the images'
            )
        runner.logger.warning(f'{message}. Step skipped, {total} so far')

    def _write(self, runner: Runner, iteration: int, batches: list[dict], with_state: bool) -> Path:
        report = Path(runner.work_dir) / FOLDER / f'iter_{iteration}.json'
        if not is_main_process():
            return report
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(dict(iteration=iteration, batches=batches), indent=1) + '\n')
        if with_state:
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            state = run_state(runner, meta, optimizer=True, param_scheduler=True)
            info = state['message_hub']['runtime_info']
            info[SAMPLES_SEEN] = runner.train_loop.batch_start  # resumed, it begins with this batch
            info[EPOCH_ITERATION] = max(info.get(EPOCH_ITERATION, 0) - 1, 0)
            write_checkpoint(state, report.with_suffix('.pth'))
        return report


def files_of(batch: Any) -> list[str]:
    """Return the image paths of a batch, or empty strings for samples without a path."""
    samples = batch.get('data_samples', ()) if isinstance(batch, Mapping) else ()
    return [str(getattr(sample, 'img_path', '')) for sample in samples]


def _is_finite(losses: dict[str, str]) -> bool:
    return all(torch.isfinite(torch.tensor(float(value))) for value in losses.values())
