"""Segmentation losses."""

from dpt.models.losses.cross_entropy import CrossEntropyLoss

__all__ = ['CrossEntropyLoss']
