"""What a rule can do to a tensor besides giving it another name."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def _dense_kernel(kernel: Tensor) -> Tensor:
    """Inputs x outputs -> outputs x inputs."""
    return kernel.t()


def _conv_kernel(kernel: Tensor) -> Tensor:
    """Height x width x inputs x outputs -> outputs x inputs x height x width."""
    return kernel.permute(3, 2, 0, 1)


def _into_heads(kernel: Tensor) -> Tensor:
    """Inputs x heads x channels of a head -> outputs x inputs, the heads one after the other."""
    return kernel.reshape(kernel.shape[0], -1).t()


def _out_of_heads(kernel: Tensor) -> Tensor:
    """Heads x channels of a head x outputs -> outputs x inputs."""
    return kernel.reshape(-1, kernel.shape[-1]).t()


def _flat(bias: Tensor) -> Tensor:
    """Heads x channels of a head -> channels."""
    return bias.reshape(-1)


def _without_second_position(pos_embed: Tensor) -> Tensor:
    """1 x (class, distillation, patches) x C -> 1 x (class, patches) x C."""
    return torch.cat([pos_embed[:, :1], pos_embed[:, 2:]], dim=1)


# Name: (dimensions of the source's tensor, what is done).
TRANSFORMS: Mapping[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    'dense kernel': (2, _dense_kernel),
    'conv kernel': (4, _conv_kernel),
    'into heads': (3, _into_heads),
    'out of heads': (3, _out_of_heads),
    'flat': (2, _flat),
    'without second position': (3, _without_second_position),
}


def transform(name: str, tensor: Tensor, key: str) -> Tensor:
    """Apply the transform called ``name`` to the tensor that the file calls ``key``.

    Raises:
        ValueError: the tensor has another number of dimensions than the source gives it.
    """
    dimensions, function = TRANSFORMS[name]
    if tensor.ndim != dimensions:
        raise ValueError(
            f'{key} is of shape {"x".join(map(str, tensor.shape))}, expected {dimensions} dimensions: '
            'the file is of another layout than its keys say'
        )
    return function(tensor)
