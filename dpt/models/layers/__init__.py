"""Layers that several parts of the model share."""

from dpt.models.layers.conv import ConvModule
from dpt.models.layers.drop_path import DropPath
from dpt.models.layers.pos_embed import resize_pos_embed
from dpt.models.layers.rows import Rows, bands, resized, rows_of, with_context

__all__ = [
    'ConvModule',
    'DropPath',
    'Rows',
    'bands',
    'resize_pos_embed',
    'resized',
    'rows_of',
    'with_context',
]
