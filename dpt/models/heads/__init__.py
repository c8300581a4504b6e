"""Heads: map fused feature maps to logits or depth."""

from dpt.models.heads.depth import DepthHead
from dpt.models.heads.dpt import DPTHead
from dpt.models.heads.fcn import FCNHead

__all__ = ['DPTHead', 'DepthHead', 'FCNHead']
