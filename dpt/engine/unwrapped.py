"""The model itself, where several processes share a wrapper around it."""

from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> Any:
    """Return the model inside of a wrapper such as DistributedDataParallel, or the model."""
    return model.module if is_model_wrapper(model) else model
