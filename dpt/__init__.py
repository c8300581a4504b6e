"""Train and run Dense Prediction Transformers.

>>> import dpt
>>> model = dpt.load('model.safetensors')
>>> result = model('street.jpg')
"""

import importlib
from typing import TYPE_CHECKING, Any

from dpt import registry as _registry  # noqa: F401  (creates the scope 'dpt')

if TYPE_CHECKING:
    from dpt.apis import Predictor, inference_model, init_model
    from dpt.loading import load
    from dpt.results import Depth, Segmentation

__all__ = ['Depth', 'Predictor', 'Segmentation', 'inference_model', 'init_model', 'load']
__version__ = '0.1.0'

_PLACES = {
    'Depth': 'dpt.results',
    'Predictor': 'dpt.apis',
    'Segmentation': 'dpt.results',
    'inference_model': 'dpt.apis',
    'init_model': 'dpt.apis',
    'load': 'dpt.loading',
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, because they import torch."""
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_PLACES[name]), name)
