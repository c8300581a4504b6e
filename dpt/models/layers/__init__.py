"""Layers that several parts of the model share."""

from dpt.models.layers.conv import ConvModule
from dpt.models.layers.drop_path import DropPath
from dpt.models.layers.pos_embed import resize_pos_embed

__all__ = ['ConvModule', 'DropPath', 'resize_pos_embed']
