"""Losses of segmentation and depth."""

from dpt.models.losses.cross_entropy import CrossEntropyLoss
from dpt.models.losses.depth import GradientLogLoss, ScaleShiftInvariantLoss, SiLogLoss
from dpt.models.losses.hard_pixels import OhemCrossEntropy, OHEMPixelSampler
from dpt.models.losses.region import DiceLoss, FocalLoss, LovaszLoss, TverskyLoss

__all__ = [
    'CrossEntropyLoss',
    'DiceLoss',
    'FocalLoss',
    'GradientLogLoss',
    'LovaszLoss',
    'OHEMPixelSampler',
    'OhemCrossEntropy',
    'ScaleShiftInvariantLoss',
    'SiLogLoss',
    'TverskyLoss',
]
