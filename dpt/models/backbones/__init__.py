"""Backbones: map images to taps."""

from dpt.models.backbones.timm import TimmBackbone
from dpt.models.backbones.vit import VisionTransformer
from dpt.models.backbones.vit_hybrid import HybridVisionTransformer

__all__ = ['HybridVisionTransformer', 'TimmBackbone', 'VisionTransformer']
