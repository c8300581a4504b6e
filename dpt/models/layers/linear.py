"""Linear layers and 1x1 convolutions by the kernel that is fast where they run."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpt.eager import eager_on_cpu_without_autocast


@cache
def _onednn_is_faster() -> bool:
    # torch multiplies float32 matrices by MKL, which was half as fast on an AMD EPYC with AVX-512 as oneDNN,
    # by which torch computes convolutions.
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith('AVX512')
    return torch.backends.mkldnn.is_available() and has_avx512


def _takes_onednn(x: Tensor) -> bool:
    return eager_on_cpu_without_autocast(x.device) and x.dtype == torch.float32 and _onednn_is_faster()


def _dilation(x: Tensor) -> int:
    # It means nothing to a kernel of 1x1, but with it torch takes oneDNN on a single thread, too.
    return 2 if _takes_onednn(x) else 1


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``torch.nn.functional.linear``, float32 tokens of shape BxNxC on a CPU as a 1x1 convolution.

    Equal up to rounding, and up to twice as fast.
    """
    if x.dim() != 3 or not _takes_onednn(x):
        return F.linear(x, weight, bias)
    columns = x.transpose(1, 2).unsqueeze(2)  # BxCx1xN, channels last: a view
    y = F.conv2d(columns, weight[:, :, None, None], bias, dilation=_dilation(x))
    return y.squeeze(2).transpose(1, 2)


class Linear(nn.Linear):
    """``torch.nn.Linear`` on tokens of shape BxNxC, computed by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class PointwiseConv2d(nn.Conv2d):
    """1x1 convolution: ``torch.nn.Conv2d`` with ``kernel_size=1``."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, dilation=_dilation(x))
