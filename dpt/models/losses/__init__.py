"""Losses on logits at the size of the label."""

from dpt.models.losses.accuracy import accuracy
from dpt.models.losses.cross_entropy import CrossEntropyLoss

__all__ = ['CrossEntropyLoss', 'accuracy']
