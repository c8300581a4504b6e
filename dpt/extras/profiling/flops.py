"""Parameters, floating-point operations and activation memory of a model, without computing anything.

The model is built from its config a second time, of torch's fake tensors, which have shapes and no data: it
costs no memory to speak of, draws no random number and leaves the model that trains alone.
"""

import copy
from dataclasses import dataclass

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from dpt.extras.profiling.memory import TensorMemory
from dpt.extras.profiling.parts import parts_of, watch_parts
from dpt.registry import MODELS

Shape = tuple[int, int, int, int]
REST = 'rest'


@dataclass(frozen=True)
class PartCost:
    """What a part of a model costs.

    Attributes:
        name: Name of the part.
        parameters: Number of parameters.
        flops: Floating-point operations of the forward pass; a multiplication and an addition are two.
        activation_bytes: Memory in training that is held when the part is done and was not when it began:
            its result and what it keeps for the backward pass.
    """

    name: str
    parameters: int
    flops: int
    activation_bytes: int


def _attention(query: tuple, key: tuple, value: tuple, *_: object, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(_: tuple, query: tuple, key: tuple, value: tuple, *__: object, **___: object) -> int:
    # Two products for each of the forward pass, as elsewhere; what the kernel recomputes is no gain.
    return 2 * sdpa_flop_count(query, key, value)


# torch has formulas for the kernels of GPUs alone.
FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def flop_counter() -> FlopCounterMode:
    """Return torch's counter, which also knows fused attention on a CPU."""
    return FlopCounterMode(display=False, custom_mapping=FORMULAS)


def _build(config: dict) -> BaseModel:
    """Build the model in training mode, within a ``FakeTensorMode``."""
    model = MODELS.build(copy.deepcopy(config)).train()
    for module in model.modules():
        if hasattr(module, 'with_cp'):
            module.with_cp = False  # what is computed a second time is not the model's work
    return model


def _logits(model: BaseModel, images: Tensor) -> list[Tensor]:
    """Return the logits of all heads, where the matrix products of a training step end."""
    maps = model.extract_feat(images)  # type: ignore[operator]
    heads = [model.decode_head, *model.auxiliary_heads]  # type: ignore[misc, list-item]
    return [head(maps) for head in heads]  # type: ignore[operator]


def training_flops(config: dict, shape: Shape) -> int:
    """Count the operations of a training step, forward and backward.

    Frozen layers have no backward pass; the loss and the optimiser hold no matrix product and are left out,
    as is what activation checkpointing computes a second time.

    Args:
        config: Config of the segmentor.
        shape: Shape BxCxHxW of the images.
    """
    with FakeTensorMode():
        model, images = _build(config), torch.zeros(shape)
        with flop_counter() as counter:
            torch.stack([x.sum() for x in _logits(model, images)]).sum().backward()
    return counter.get_total_flops()


def part_costs(config: dict, shape: Shape) -> list[PartCost]:
    """Return what each part costs in a forward pass, and the rest where there is one.

    Args:
        config: Config of the segmentor.
        shape: Shape BxCxHxW of the images.
    """
    flops: dict[str, int] = {}
    held: dict[str, int] = {}
    with FakeTensorMode():
        model, images = _build(config), torch.zeros(shape)
        with flop_counter() as counter, TensorMemory() as memory:

            def add(name: str, sign: int) -> None:
                flops[name] = flops.get(name, 0) + sign * counter.get_total_flops()
                held[name] = held.get(name, 0) + sign * memory.live

            with watch_parts(model, lambda name: add(name, -1), lambda name: add(name, 1)):
                logits = _logits(model, images)
            total, live = counter.get_total_flops(), memory.live
            del logits
        sizes = {name: _parameters(part) for name, part in parts_of(model).items()}
        rest = _parameters(model) - sum(sizes.values())
    parts = [PartCost(name, sizes[name], flops.get(name, 0), held.get(name, 0)) for name in sizes]
    remaining = PartCost(REST, rest, total - sum(flops.values()), live - sum(held.values()))
    if remaining.parameters or remaining.flops or remaining.activation_bytes:
        parts.append(remaining)
    return parts


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
