"""Convolution with optional batch normalisation and ReLU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from dpt.models.layers.linear import PointwiseConv2d
from dpt.models.layers.rows import predicts_on_cpu


def is_watched(module: nn.Module) -> bool:
    """Return whether hooks see what ``module`` or a part of it takes and returns, and may keep it.

    Then nothing of that may be overwritten, and every part has to be called. Not in compiled code.
    """
    if torch.compiler.is_compiling():
        return False
    return _has_any_global_hook() or any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in module.modules()
    )


def added(own: Tensor, x: Tensor) -> Tensor:
    """Return ``own + x`` in the memory of ``own``, a result that nobody else has and no gradient needs."""
    return own.add_(x) if own.dtype == x.dtype else own + x


def normed(x: Tensor, norm: nn.BatchNorm2d | None) -> Tensor:
    """Return ``norm(x)``, in a prediction on a CPU in the memory of ``x``, which nobody else may have."""
    if norm is None:
        return x
    if (
        norm.training
        or type(norm) is not nn.BatchNorm2d
        or not norm.affine
        or x.dtype != norm.weight.dtype
        or norm.running_var is None
        or norm.running_mean is None
        or not predicts_on_cpu(x)
    ):
        return norm(x)
    gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * gain
    return torch.addcmul(shift[:, None, None], x, gain[:, None, None], out=x)


class ConvModule(nn.Module):
    """3x3 or 1x1 convolution that keeps the spatial size, with optional norm and activation.

    Sub-modules are named ``conv`` and ``bn`` as in mmcv, so that checkpoints share their keys.

    Args:
        in_channels: Channels of the input, of shape BxCxHxW.
        out_channels: Channels of the output.
        kernel_size: Odd side of the kernel; the input is padded by half of it.
        norm: ``'BN'`` for batch normalisation, ``None`` for none. The convolution has a bias only without it,
            unless ``bias`` says otherwise.
        act: Whether ReLU is applied.
        act_first: Whether ReLU comes before the convolution (pre-activation) instead of after the norm.
        bias: Whether the convolution has a bias; ``None`` means only without a norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        norm: str | None = None,
        act: bool = True,
        act_first: bool = False,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        if norm not in (None, 'BN'):
            raise ValueError(
                f"norm={norm!r} is not supported: use 'BN' (it becomes SyncBN where there are several GPUs) "
                'or None'
            )
        bias = norm is None if bias is None else bias
        if kernel_size == 1:
            self.conv: nn.Conv2d = PointwiseConv2d(in_channels, out_channels, bias=bias)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.bn = nn.BatchNorm2d(out_channels) if norm else None
        self.act = nn.ReLU() if act else nn.Identity()
        self.act_first = act_first

    def forward(self, x: Tensor) -> Tensor:
        if self.act_first:
            x = self.act(x)
        x = self.conv(x)
        watched = is_watched(self)
        x = self.bn(x) if watched and self.bn is not None else normed(x, self.bn)
        if self.act_first:
            return x
        keeps = watched or torch.is_grad_enabled() or isinstance(self.act, nn.Identity)
        return self.act(x) if keeps else F.relu_(x)
