"""Seeded images, labels and weights, which are equal in both environments."""

import zlib

import numpy as np
import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

IGNORE_INDEX = 255
ROUNDED = 'with its weights rounded once, against itself'
CLASSES = 150


def generator(name: str) -> np.random.Generator:
    """Return a random generator seeded with a name."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def normalised_image(name: str, size: tuple[int, int]) -> Tensor:
    """Draw a float32 network input of shape 1x3xHxW."""
    return torch.from_numpy(generator(name).standard_normal((1, 3, *size), dtype=np.float32))


def raw_image(name: str, size: tuple[int, int]) -> Tensor:
    """Draw a uint8 image of shape 3xHxW from coarse blocks and noise."""
    draw = generator(name)
    coarse = np.kron(draw.integers(0, 200, (3, size[0] // 16 + 1, size[1] // 16 + 1)), np.ones((16, 16)))
    return torch.from_numpy(
        (coarse[:, : size[0], : size[1]] + draw.integers(0, 56, (3, *size))).astype(np.uint8)
    )


def labels(name: str, size: tuple[int, int], *, classes: int = CLASSES, ignored: float = 0.1) -> np.ndarray:
    """Draw an int64 label map of shape HxW in blocks of 16x16 pixels, with a share of ignored blocks."""
    draw = generator(name)
    blocks = draw.integers(0, classes, (size[0] // 16 + 1, size[1] // 16 + 1))
    blocks[draw.random(blocks.shape) < ignored] = IGNORE_INDEX
    return np.kron(blocks, np.ones((16, 16), np.int64))[: size[0], : size[1]]


def sample(sample_class: type, label: np.ndarray) -> object:
    """Return a data sample of the given class with a label map of shape HxW."""
    size = label.shape
    made = sample_class(gt_sem_seg=PixelData(data=torch.from_numpy(label.copy())[None]))
    made.set_metainfo(dict(img_shape=size, ori_shape=size, pad_shape=size, flip=False, img_path='image.jpg'))
    return made


def randomise(state: dict[str, Tensor]) -> None:
    """Fill a state dict with random values in place, including norms, statistics and biases."""
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        noise = generator(name).standard_normal(tuple(tensor.shape), dtype=np.float32)
        if name.endswith('running_var'):
            noise = 0.5 + np.abs(noise)
        elif name.endswith('running_mean'):
            noise *= 0.3
        elif tensor.ndim == 1:  # biases, and the weights of norms
            noise = 0.1 * noise + (1.0 if name.endswith('weight') else 0.0)
        elif tensor.ndim == 3:  # position embedding, class token
            noise *= 0.5
        else:
            noise *= (2.0 / np.prod(tensor.shape[1:])) ** 0.5
        tensor.copy_(torch.from_numpy(noise))


@torch.no_grad()
def round_weights(model: nn.Module) -> None:
    """Change each parameter by about half an ulp of float32, to measure the effect of rounding."""
    draw = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter *= 1 + 2.0**-24 * torch.randn(parameter.shape, generator=draw)
