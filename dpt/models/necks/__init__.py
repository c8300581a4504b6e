"""Necks: map taps to fused feature maps."""

from dpt.models.necks.dpt import DPTNeck, FeatureFusionBlock

__all__ = ['DPTNeck', 'FeatureFusionBlock']
