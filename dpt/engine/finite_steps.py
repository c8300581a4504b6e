"""No step of the optimiser on a loss or gradients that are not finite."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn


class FiniteSteps:
    """Part of an optimiser wrapper: a step whose loss or gradients are not finite in any process is left out.

    Parameters, the optimiser's state and what batch norm has gathered are afterwards what they were before.
    A step that is finite is the very same as without this class.

    A fused optimiser on a GPU is told on the device to do nothing, so that nobody waits for the answer; with
    others the host waits for it before each step. The scaler of float16 finds gradients that are too large as
    a matter of course and lowers its scale: only where that has reached 1 is it a fault. What is
    on a CPU is known at once, and judged without a tensor.
    """

    skipped: bool | Tensor = False
    """Whether the last step was left out because of a fault; on a GPU possibly a tensor of one bool."""

    _loss_fault: bool | Tensor | None = None
    _statistics: list[Tensor] | None = None
    _statistics_before: Tensor | None = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter mmengine's context of a forward pass; what batch norm has gathered so far is kept."""
        if self._statistics is None:
            self._statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if self._statistics and self._loss_fault is None:  # the first pass since the last step
            self._statistics_before = _flat(self._statistics)
        with super().optim_context(model):  # type: ignore[misc]
            yield

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None):
        """Take a step by ``loss``, or note it where gradients are accumulated."""
        fault = _not_finite(loss.detach())
        self._loss_fault = fault if self._loss_fault is None else self._loss_fault | fault
        self.skipped = False
        super().update_params(loss, step_kwargs, zero_kwargs)  # type: ignore[misc]

    def step(self, **kwargs) -> None:
        """Take a step if everything is finite.

        Args:
            **kwargs: Of ``torch.optim.Optimizer.step``.
        """
        optimizer = self.optimizer  # type: ignore[attr-defined]
        groups = (group['params'] for group in optimizer.param_groups)
        gradients = [p.grad for group in groups for p in group if p.grad is not None]
        fault = False if self._loss_fault is None else self._loss_fault
        self._loss_fault = None
        scaler = getattr(self, 'loss_scaler', None)
        if scaler is not None and scaler.is_enabled():
            self._step_with_scaler(scaler, fault, gradients, kwargs)
            return
        fault = _anywhere(fault | _not_finite(nn.utils.get_total_norm(gradients)))
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
        scale = scaler._get_scale_async()  # not get_scale(), for which the host waits
        if scale is not None:
            fault = fault | ((scale <= 1) & _not_finite(nn.utils.get_total_norm(gradients)))
        fault = torch.as_tensor(_anywhere(fault))
        if gradients:  # the scaler leaves out the step if it finds one such value
            one = min(gradients, key=Tensor.numel)
            one.copy_(torch.where(fault, torch.nan, one))
        self._restore_where(fault)
        self.skipped = fault
        super().step(**kwargs)  # type: ignore[misc]

    def _decides_on_device(self, fault: Tensor) -> bool:
        # What torch's own scaler asks of an optimiser before it leaves the decision to it.
        return fault.is_cuda and getattr(self.optimizer, '_step_supports_amp_scaling', False)  # type: ignore[attr-defined]

    def _restore_where(self, fault: Tensor) -> None:
        if self._statistics and self._statistics_before is not None:
            kept = torch.where(fault, self._statistics_before, _flat(self._statistics))
            parts = kept.split([buffer.numel() for buffer in self._statistics])
            views = [part.view_as(buffer) for part, buffer in zip(parts, self._statistics, strict=True)]
            torch._foreach_copy_(self._statistics, views)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1).double() for tensor in tensors])


def _not_finite(value: Tensor) -> bool | Tensor:
    """Whether a number is not finite: on a GPU as a tensor, for which nobody waits."""
    return not math.isfinite(value.item()) if value.device.type == 'cpu' else ~torch.isfinite(value)


def _anywhere(fault: bool | Tensor) -> bool | Tensor:
    """Whether there is a fault in any process."""
    if get_world_size() == 1:
        return fault
    found = torch.as_tensor(fault).float()
    all_reduce(found, 'max')
    return found > 0
