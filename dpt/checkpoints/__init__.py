"""Read checkpoints safely, convert their keys, load them strictly and write them atomically."""

from .formats import Report, convert
from .load import load_backbone, load_model
from .meta import dataset_meta, read_meta
from .read import checkpoint_hash, read_checkpoint, read_state_dict
from .write import save_weights

__all__ = [
    'Report',
    'checkpoint_hash',
    'convert',
    'dataset_meta',
    'load_backbone',
    'load_model',
    'read_checkpoint',
    'read_meta',
    'read_state_dict',
    'save_weights',
]
