"""Batch norm over the batches of all processes, without waiting for the GPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose mean and variance are those of the batches of all processes.

    Equal to ``torch.nn.SyncBatchNorm``, and works on CPUs too. torch removes the statistics of empty batches
    with masks, whose result has a size that the host must wait for, three times a layer. Here no process may
    have an empty batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps of shape BxCx*; the statistics are computed in float32 at least."""
        if not self.training or distributed.get_world_size() == 1:
            return super().forward(x)
        y, mean, var, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        batches, running_mean, running_var = self.num_batches_tracked, self.running_mean, self.running_var
        if batches is not None and running_mean is not None and running_var is not None:
            batches += 1
            rate = 1 / batches if self.momentum is None else self.momentum
            unbiased = var * (count / (count - 1).clamp(min=1))
            for running, now in ((running_mean, mean), (running_var, unbiased)):
                running += rate * (now.to(running.dtype) - running)
        return y

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f'expected at least 2 dimensions, got {x.dim()}')


class _Normalise(torch.autograd.Function):
    """Source: Ioffe and Szegedy 2015, arXiv 1502.03167, with the sums over all processes."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        dims = [0, *range(2, x.dim())]
        count = wide.new_full((1,), x.numel() / x.shape[1])
        var, mean = torch.var_mean(wide, dims, correction=0)
        own = torch.cat([mean, var, count])
        every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, own)
        means, variances, counts = torch.stack(every).split([len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        shares = counts / total
        mean = (shares * means).sum(0)
        var = (shares * (variances + (means - mean).square())).sum(0)
        scale = (var + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale, total)
        ctx.mark_non_differentiable(mean, var, total)
        # With fixed statistics, torch's kernel only scales and shifts.
        return F.batch_norm(x, mean, var, weight, bias, eps=eps), mean, var, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        x, weight, mean, scale, total = ctx.saved_tensors
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        normal = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        wide = grad.to(mean.dtype)
        own = torch.stack([wide.sum(dims), (wide * normal).sum(dims)])
        sums = own.clone()
        distributed.all_reduce(sums)
        shift, slope = (sums / total).unbind()
        gain = scale if weight is None else scale * weight
        inner = (wide - shift.view(shape) - normal * slope.view(shape)) * gain.view(shape)
        of_bias, of_weight = own.unbind() if weight is not None else (None, None)
        return inner.to(x.dtype), of_weight, of_bias, None


def use_sync_batch_norm(model: nn.Module) -> None:
    """Replace the batch norms of a model by :class:`SyncBatchNorm`, in place.

    Raises:
        ValueError: If a batch norm does more than normalise, such as timm's with an activation.
    """
    for name, module in model.named_modules():
        if type(module) in KINDS:
            module.__class__ = SyncBatchNorm
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"sync_bn='dpt' cannot replace {name}, a {type(module).__name__}: use sync_bn='torch'"
            )
