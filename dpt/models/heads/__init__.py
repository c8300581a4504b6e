"""Heads: map fused feature maps to logits."""

from dpt.models.heads.dpt import DPTHead
from dpt.models.heads.fcn import FCNHead

__all__ = ['DPTHead', 'FCNHead']
