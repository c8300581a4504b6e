"""Convolutional stem of hybrid ViTs: ResNet with weight-standardised convolutions and GroupNorm.

This is the ResNetV2 of "Big Transfer" (Kolesnikov et al. 2020, arXiv 1912.11370) with the norm after each
convolution, as in ``vit_base_resnet50_384`` of timm 0.4.5, whose submodule names it keeps.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_GROUPS = 32


def pad_same(x: Tensor, kernel_size: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad like TensorFlow's 'SAME' to an output of ceil(H / stride); extra padding goes bottom and right."""

    def total(length: int) -> int:
        # Tracing evaluates this in Python, so an exported graph contains constant padding.
        return max(kernel_size - (length % stride or stride), 0)

    height, width = total(x.shape[-2]), total(x.shape[-1])
    padding = (width // 2, width - width // 2, height // 2, height - height // 2)
    return F.pad(x, padding, value=value) if height or width else x


class WSConv2d(nn.Conv2d):
    """Weight-standardised convolution with 'SAME' padding (Qiao et al. 2019, arXiv 1903.10520).

    Args:
        in_channels: Channels of the input, of shape BxCxHxW.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel.
        stride: Stride in both directions.
        weight_eps: Epsilon added to the standard deviation of each filter, or to its variance if the
            attribute ``eps_in_variance`` is true.
    """

    eps_in_variance = False

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, weight_eps: float
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, bias=False)
        self.weight_eps = weight_eps

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x: Tensor) -> Tensor:
        std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        std = torch.sqrt(std * std + self.weight_eps) if self.eps_in_variance else std + self.weight_eps
        weight = (self.weight - mean) / std
        return F.conv2d(pad_same(x, self.kernel_size[0], self.stride[0]), weight, stride=self.stride)


def group_norm(channels: int) -> nn.GroupNorm:
    if channels % NORM_GROUPS:
        raise ValueError(
            f'{channels} channels of the stem must be a multiple of the {NORM_GROUPS} groups of GroupNorm'
        )
    return nn.GroupNorm(NORM_GROUPS, channels)


class RootBlock(nn.Module):
    """7x7 convolution and 3x3 max-pooling, both with stride 2."""

    def __init__(self, in_channels: int, channels: int, *, weight_eps: float) -> None:
        super().__init__()
        self.conv = WSConv2d(in_channels, channels, kernel_size=7, stride=2, weight_eps=weight_eps)
        self.norm = group_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        return F.max_pool2d(pad_same(x, 3, 2, value=-math.inf), 3, stride=2)


class Shortcut(nn.Module):
    """1x1 convolution and norm for the shortcut of a block that changes channels or size."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, weight_eps: float) -> None:
        super().__init__()
        self.conv = WSConv2d(in_channels, out_channels, kernel_size=1, stride=stride, weight_eps=weight_eps)
        self.norm = group_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1 convolutions with norms and a quarter of the channels inside."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, weight_eps: float, downsample: bool
    ) -> None:
        super().__init__()
        inner = out_channels // 4
        self.downsample = (
            Shortcut(in_channels, out_channels, stride=stride, weight_eps=weight_eps)
            if downsample
            else nn.Identity()
        )
        self.conv1 = WSConv2d(in_channels, inner, kernel_size=1, weight_eps=weight_eps)
        self.norm1 = group_norm(inner)
        self.conv2 = WSConv2d(inner, inner, kernel_size=3, stride=stride, weight_eps=weight_eps)
        self.norm2 = group_norm(inner)
        self.conv3 = WSConv2d(inner, out_channels, kernel_size=1, weight_eps=weight_eps)
        self.norm3 = group_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        residual = F.relu(self.norm1(self.conv1(x)))
        residual = F.relu(self.norm2(self.conv2(residual)))
        residual = self.norm3(self.conv3(residual))
        return F.relu(residual + self.downsample(x))


class ResNetStage(nn.Module):
    """Bottleneck blocks at one resolution; the first block changes channels and size."""

    def __init__(
        self, in_channels: int, out_channels: int, *, depth: int, stride: int, weight_eps: float
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                Bottleneck(
                    in_channels if i == 0 else out_channels,
                    out_channels,
                    stride=stride if i == 0 else 1,
                    weight_eps=weight_eps,
                    downsample=i == 0,
                )
                for i in range(depth)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)
