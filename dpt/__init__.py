"""Train and run Dense Prediction Transformers for semantic segmentation."""

from dpt import registry as _registry  # noqa: F401  (creates the scope 'dpt')

__version__ = '0.1.0'
