"""ReLU, alone or after batch norm, and what follows, keeping their input alone for the backward pass."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dpt.models.layers.recompute import recomputed

CHUNK_BYTES = 8 << 20
"""What the backward pass computes again at a time: some channels of all pixels."""


class _ReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, x, 0)


def relu(x: Tensor) -> Tensor:
    """Compute ReLU, which keeps its input, where torch's keeps its result: for :func:`recomputed`."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.relu(x)
    return _ReLU.apply(x)


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor | None, norm: Any) -> Tensor:
        y, mean, inverse_std = torch.native_batch_norm(
            x, weight, bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
        )
        ctx.save_for_backward(x, weight, bias, gain, mean, inverse_std)
        ctx.eps = norm.eps
        return _gained(y, gain).relu_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, gain, mean, inverse_std = ctx.saved_tensors
        result = torch.empty_like(x)
        of_weight, of_bias = torch.empty_like(weight), torch.empty_like(bias)
        for c in _chunks(x):
            y = _normed(x[:, c], weight[c], bias[c], ctx.eps)
            of_y = torch.ops.aten.threshold_backward(gradient[:, c], y, 0)
            del y
            result[:, c], of_weight[c], of_bias[c] = _norm_backward(
                _gained(of_y, gain, c), x[:, c], weight[c], mean[c], inverse_std[c], ctx.eps
            )
        return result, of_weight, of_bias, None, None


def _chunks(x: Tensor) -> Iterator[slice]:
    """Yield slices of the channels: a norm of channels knows no other channel."""
    step = max(CHUNK_BYTES * x.shape[1] // (x.numel() * x.element_size()), 1)
    for first in range(0, x.shape[1], step):
        yield slice(first, min(first + step, x.shape[1]))


class _Classify(torch.autograd.Function):
    """Norm, ReLU and a 1x1 convolution, some channels at a time: the maps between them are never held."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
        gain: Tensor | None,
        norm: Any,
    ) -> Tensor:
        mean, inverse_std = torch.empty_like(norm_weight), torch.empty_like(norm_weight)
        y = bias.repeat(len(x), x.shape[-2] * x.shape[-1], 1)  # BxHWxK: the loss runs along classes
        for c in _chunks(x):
            z, mean[c], inverse_std[c] = torch.native_batch_norm(
                x[:, c],
                norm_weight[c],
                norm_bias[c],
                norm.running_mean[c],
                norm.running_var[c],
                True,
                norm.momentum,
                norm.eps,
            )
            z = _gained(z, gain, c).relu_()
            y.baddbmm_(z.flatten(2).transpose(1, 2), weight[:, c, 0, 0].t().expand(len(x), -1, -1))
        ctx.save_for_backward(x, norm_weight, norm_bias, weight, gain, mean, inverse_std)
        ctx.eps = norm.eps
        return y.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_weight, norm_bias, weight, gain, mean, inverse_std = ctx.saved_tensors
        gradient = gradient.permute(0, 2, 3, 1).flatten(1, 2)  # BxHWxK
        result, of_weight = torch.empty_like(x), torch.empty_like(weight)
        of_norm_weight, of_norm_bias = torch.empty_like(norm_weight), torch.empty_like(norm_bias)
        for c in _chunks(x):
            z = _gained(_normed(x[:, c], norm_weight[c], norm_bias[c], ctx.eps), gain, c).relu_()
            of_weight[:, c, 0, 0] = torch.einsum('bnk,bcn->kc', gradient, z.flatten(2))
            of_z = (weight[:, c, 0, 0].t() @ gradient.transpose(1, 2)).view_as(z)
            of_z = torch.ops.aten.threshold_backward(of_z, z, 0)
            result[:, c], of_norm_weight[c], of_norm_bias[c] = _norm_backward(
                _gained(of_z, gain, c), x[:, c], norm_weight[c], mean[c], inverse_std[c], ctx.eps
            )
        return result, of_norm_weight, of_norm_bias, of_weight, gradient.sum((0, 1)), None, None


def _normed(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise by the batch, gathering nothing."""
    return torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)[0]


def _norm_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse_std: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the input, the weight and the bias of a norm by the batch."""
    return torch.ops.aten.native_batch_norm_backward(
        gradient, x, weight, None, None, mean, inverse_std, True, eps, [True, True, True]
    )


def _gained(x: Tensor, gain: Tensor | None, channels: slice = slice(None)) -> Tensor:
    """Multiply by the gain of those channels, in the memory of ``x``."""
    return x if gain is None else x.mul_(gain[:, channels])


def _is_plain(norm: nn.Module, x: Tensor) -> bool:
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.track_running_stats
        and norm.affine
        and norm.momentum is not None
        and x.device.type == 'cpu'
        and x.dtype == norm.weight.dtype
        and torch.is_grad_enabled()
        and norm.weight.requires_grad
        and not torch.compiler.is_compiling()
    )


def _again(x: Tensor, norm: nn.Module, gain: Tensor | None) -> Tensor:
    """Normalise by the batch once more; what the norm gathers, it has gathered."""
    y = F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)  # type: ignore[arg-type]
    return _gained(y, gain).relu_()


def after_norm_relu(
    consumer: Callable[[Tensor], Tensor], x: Tensor, norm: nn.Module | None, gain: Tensor | None = None
) -> Tensor:
    """Return ``consumer(relu(gain * norm(x)))``.

    Without a norm, or with a batch norm that trains on a CPU, ``x`` alone is kept for the backward pass,
    which computes the rest again. The same bit by bit in the forward pass.

    Args:
        consumer: Anything that is differentiable.
        x: Tensor of shape BxCxHxW.
        norm: Norm of the channels, or ``None``.
        gain: What channels are multiplied by, of shape BxCx1x1 and not negative (so that it may come before
            or after the ReLU), without a gradient; ``None`` for 1.
    """
    if norm is None:
        return recomputed(relu, consumer, x if gain is None else x * gain)
    if not _is_plain(norm, x):
        y = norm(x)
        return consumer(F.relu_(y if gain is None else y * gain))
    norm.num_batches_tracked.add_(1)  # type: ignore[operator, union-attr]
    return recomputed(
        lambda x: _NormReLU.apply(x, norm.weight, norm.bias, gain, norm),
        consumer,
        x,
        again=lambda x: _again(x, norm, gain),
    )


def classified(x: Tensor, norm: nn.Module | None, conv: nn.Conv2d, gain: Tensor | None) -> Tensor:
    """Return ``conv(relu(gain * norm(x)))`` for a 1x1 convolution ``conv``.

    A batch norm that trains on a CPU, and the convolution after it, hold a few channels at a time in either
    pass, and ``x`` alone between them. Equal up to rounding. Other arguments as in :func:`after_norm_relu`.
    """
    if norm is None or not _is_plain(norm, x) or conv.bias is None:
        return after_norm_relu(conv, x, norm, gain)
    norm.num_batches_tracked.add_(1)  # type: ignore[operator, union-attr]
    return _Classify.apply(x, norm.weight, norm.bias, conv.weight, conv.bias, gain, norm)
