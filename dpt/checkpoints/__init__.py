"""Weights from files: read safely, renamed by tables, loaded strictly."""

from .convert import Report, convert
from .load import load_backbone, load_model
from .read import checkpoint_hash, read_checkpoint, read_state_dict

__all__ = [
    'Report',
    'checkpoint_hash',
    'convert',
    'load_backbone',
    'load_model',
    'read_checkpoint',
    'read_state_dict',
]
