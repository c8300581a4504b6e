"""Necks: taps to fused maps."""

from dpt.models.necks.dpt import DPTNeck

__all__ = ['DPTNeck']
