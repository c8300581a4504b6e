"""Losses on logits and labels."""

from dpt.models.losses.cross_entropy import CrossEntropyLoss

__all__ = ['CrossEntropyLoss']
