"""Heads: fused maps to logits, nothing else."""

from dpt.models.heads.dpt import DPTHead
from dpt.models.heads.fcn import FCNHead

__all__ = ['DPTHead', 'FCNHead']
