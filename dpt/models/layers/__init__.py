"""Layers that several parts of the model share."""

from dpt.models.layers.conv import ConvModule
from dpt.models.layers.drop_path import DropPath
from dpt.models.layers.linear import Linear, PointwiseConv2d, linear
from dpt.models.layers.pos_embed import differ, resize_pos_embed
from dpt.models.layers.recompute import keep_intermediates, recomputed
from dpt.models.layers.rows import Rows, bands, resized, row_weights, rows_of, source_rows, with_context

__all__ = [
    'ConvModule',
    'DropPath',
    'Linear',
    'PointwiseConv2d',
    'Rows',
    'bands',
    'differ',
    'keep_intermediates',
    'linear',
    'recomputed',
    'resize_pos_embed',
    'resized',
    'row_weights',
    'rows_of',
    'source_rows',
    'with_context',
]
