"""The tiny models that ``isl_reference.npz`` is about: their sizes, weights and inputs, all by formula.

The file holds what the original DPT (isl-org/DPT on timm 0.4.5, in float64) computed for them: its keys and
shapes, its logits, and its auxiliary layer's logits on the penultimate fusion map. All layers and blocks are
there, so that the keys are those of the original's released files.
"""

import zlib

import numpy as np
import torch

SIDE, WIDTH, HEADS, CHANNELS, CLASSES = 64, 32, 2, 16, 2
STEM, STAGES = 32, (128, 256, 512)
SIZES = [(64, 64), (32, 96)]
LEVELS = {  # channels of the four levels
    'vitb16_384': (8, 16, 24, 32),
    'vitl16_384': (8, 16, 32, 32),
    'vitb_rn50_384': (*STAGES[:2], 32, 32),
}
DEPTHS = {'vitb16_384': 12, 'vitl16_384': 24, 'vitb_rn50_384': 12}


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Values that depend on the parameter's name and shape and on nothing else."""
    # The legacy generator's stream is the same in every version of numpy.
    if not shape:
        return torch.tensor(0)  # the number of batches that a norm has seen
    noise = torch.from_numpy(np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape))
    if name.endswith('running_var'):
        return torch.exp(0.2 * noise)
    if len(shape) != 1:
        fan_in = max(noise[0].numel(), 1)
        return noise if 'model.pos_embed' in name or 'cls_token' in name else noise / fan_in**0.5
    return 0.2 * noise + (1 if name.endswith('weight') else 0)


def image(size: tuple[int, int]) -> torch.Tensor:
    """A float64 input of shape 1x3xHxW."""
    pixels = torch.arange(3 * size[0] * size[1], dtype=torch.float64)
    return torch.cos(pixels * 0.13).reshape(1, 3, *size)
