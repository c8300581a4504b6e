"""Segmentation losses."""

from dpt.models.losses.cross_entropy import CrossEntropyLoss
from dpt.models.losses.hard_pixels import OhemCrossEntropy, OHEMPixelSampler
from dpt.models.losses.region import DiceLoss, FocalLoss, LovaszLoss, TverskyLoss

__all__ = [
    'CrossEntropyLoss',
    'DiceLoss',
    'FocalLoss',
    'LovaszLoss',
    'OHEMPixelSampler',
    'OhemCrossEntropy',
    'TverskyLoss',
]
