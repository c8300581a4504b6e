"""Read the maps in the samples that a metric receives."""

import torch
from torch import Tensor


def map_of(sample: dict, key: str, loader: str = '') -> Tensor:
    """Return the map of a field, of shape HxW.

    Args:
        sample: Data sample as a dict.
        key: Name of the field.
        loader: Transform that loads the field, if the pipeline loads it.

    Raises:
        ValueError: If the field is missing or has another shape than 1xHxW.
    """
    if key not in sample:
        remedy = f': load it with {loader}, or set format_only=True' if loader else ''
        raise ValueError(f'the sample has no {key}{remedy}')
    data = sample[key]['data']
    if data.ndim != 3 or data.shape[0] != 1:
        raise ValueError(f'{key}.data must have shape 1xHxW, not {size_text(data)}')
    return torch.as_tensor(data[0])


def size_text(pixels: Tensor) -> str:
    """Return the shape as text, for example ``1x360x480``."""
    return 'x'.join(map(str, pixels.shape))
