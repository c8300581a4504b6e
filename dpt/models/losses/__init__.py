"""Losses on logits and labels."""

from dpt.models.losses.cross_entropy import CrossEntropyLoss
from dpt.models.losses.resized import resized_cross_entropy

__all__ = ['CrossEntropyLoss', 'resized_cross_entropy']
