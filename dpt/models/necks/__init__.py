"""Necks: map taps to fused feature maps."""

from dpt.models.necks.dpt import DPTNeck

__all__ = ['DPTNeck']
