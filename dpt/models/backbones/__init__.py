"""Backbones: image to taps."""

from dpt.models.backbones.vit import VisionTransformer

__all__ = ['VisionTransformer']
