"""Layers that several parts of the model share."""

from dpt.heap import release_freed_memory
from dpt.models.layers.conv import ConvModule, added, is_watched, normed
from dpt.models.layers.drop_path import DropPath
from dpt.models.layers.linear import Linear, PointwiseConv2d, linear
from dpt.models.layers.norm_relu import after_norm_relu, classified, relu
from dpt.models.layers.pos_embed import differ, resize_pos_embed
from dpt.models.layers.recompute import checkpointed, keep_intermediates, recomputed
from dpt.models.layers.rows import (
    Rows,
    bands,
    predicts_on_cpu,
    resized,
    resized_height,
    resized_width,
    row_weights,
    rows_of,
    source_rows,
    with_context,
)
from dpt.models.layers.upsampled_conv import upsampled_conv

__all__ = [
    'ConvModule',
    'DropPath',
    'Linear',
    'PointwiseConv2d',
    'Rows',
    'added',
    'after_norm_relu',
    'bands',
    'checkpointed',
    'classified',
    'differ',
    'is_watched',
    'keep_intermediates',
    'linear',
    'normed',
    'predicts_on_cpu',
    'recomputed',
    'release_freed_memory',
    'relu',
    'resize_pos_embed',
    'resized',
    'resized_height',
    'resized_width',
    'row_weights',
    'rows_of',
    'source_rows',
    'upsampled_conv',
    'with_context',
]
