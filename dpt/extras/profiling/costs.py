"""Count parameters, floating-point operations and activation memory of a model without running it.

The model is built from its config with torch's fake tensors, which have shapes but no data. This needs little
memory, draws no random numbers and does not affect the model in training.
"""

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from dpt.registry import MODELS

Shape = tuple[int, int, int, int]
REST = 'rest'
PARTS = {
    'backbone': 'backbone',
    'reassemble': 'neck.reassemble_blocks',
    'convs': 'neck.convs',
    'fusion': 'neck.fusion_blocks',
    'project': 'decode_head.project',
    'classifier': 'decode_head.conv_seg',
    'conv1': 'decode_head.conv1',
    'conv2': 'decode_head.conv2',
    'conv depth': 'decode_head.conv_depth',
    'auxiliary heads': 'auxiliary_heads',
}
"""Modules whose cost is reported separately, by name."""


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules in ``PARTS`` that the model has, in order of execution."""
    found = {}
    for name, path in PARTS.items():
        try:
            part = attrgetter(path)(model)
        except AttributeError:
            continue
        if part is not None and (not isinstance(part, nn.ModuleList) or len(part)):
            found[name] = part
    return found


@contextmanager
def watch_parts(
    model: nn.Module, enter: Callable[[str], object], leave: Callable[[str], object]
) -> Iterator[None]:
    """Call ``enter`` and ``leave`` with the name of each part before and after its forward pass."""
    handles = []
    for name, part in parts_of(model).items():
        # A ModuleList has no forward pass, so its modules are hooked. A hook must return None.
        for module in part if isinstance(part, nn.ModuleList) else [part]:
            handles += [
                module.register_forward_pre_hook(lambda *_, name=name: (enter(name), None)[1]),
                module.register_forward_hook(lambda *_, name=name: (leave(name), None)[1]),
            ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _attention(query: tuple, key: tuple, value: tuple, *_: object, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(_: tuple, query: tuple, key: tuple, value: tuple, *__: object, **___: object) -> int:
    # Two products for each one in the forward pass, not counting recomputation in the kernel.
    return 2 * sdpa_flop_count(query, key, value)


def flop_counter() -> FlopCounterMode:
    """Return torch's FLOP counter, extended with fused attention on CPUs."""
    formulas = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    return FlopCounterMode(display=False, custom_mapping=formulas)


class TensorMemory(TorchDispatchMode):
    """Count the bytes of live tensors that were created within the context.

    This includes tensors that autograd saves for the backward pass and intermediate results of composite
    operators, but not scratch memory in a kernel or memory reserved by an allocator.

    Attributes:
        live: Current number of bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        before = _storages((args, kwargs))
        result = func(*args, **(kwargs or {}))
        for key, storage in _storages(result).items():
            # Views and results of in-place operations share the storage of an argument.
            if key in before or key in self._known:
                continue
            size = storage.nbytes()
            self._known.add(key)
            self.live += size
            weakref.finalize(storage, self._release, key, size).atexit = False
        return result

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _storages(tree: Any) -> dict[int, torch.UntypedStorage]:
    """Return the storages of all tensors in nested containers, by id."""
    found = (x.untyped_storage() for x in tree_iter(tree) if isinstance(x, Tensor))
    return {id(storage): storage for storage in found}


@dataclass(frozen=True)
class PartCost:
    """Cost of a part of a model.

    Attributes:
        name: Name of the part.
        parameters: Number of parameters.
        flops: Floating-point operations of the forward pass; a multiply-add counts as two.
        activation_bytes: Memory of the output and of the tensors saved for the backward pass in training.
    """

    name: str
    parameters: int
    flops: int
    activation_bytes: int


@contextmanager
def _fake_model(config: dict) -> Iterator[BaseModel]:
    """Build the model in training mode, with fake tensors in and after the constructor.

    It is built on the meta device, because backbones of timm compute with values in their constructors.
    """
    with torch.device('meta'):
        model = MODELS.build(copy.deepcopy(config)).train()
    for module in model.modules():
        if hasattr(module, 'with_cp'):
            module.with_cp = False  # do not count recomputation
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield model.to_empty(device='cpu')


def _outputs(model: BaseModel, images: Tensor) -> list[Tensor]:
    """Return the outputs of all heads. The rest of a training step has no matrix products."""
    maps = model.extract_feat(images)  # type: ignore[operator]
    heads = [model.decode_head, *getattr(model, 'auxiliary_heads', ())]  # type: ignore[misc, list-item]
    return [head(maps) for head in heads]  # type: ignore[operator]


def training_flops(config: dict, shape: Shape) -> int:
    """Count the floating-point operations of a training step, forward and backward.

    Does not count the backward pass of frozen layers, the loss and the optimiser, which have no matrix
    products, and the recomputation of activation checkpointing.

    Args:
        config: Config of the model.
        shape: Shape BxCxHxW of the images.
    """
    with _fake_model(config) as model, flop_counter() as counter:
        torch.stack([x.sum() for x in _outputs(model, torch.zeros(shape))]).sum().backward()
    return counter.get_total_flops()


@dataclass(frozen=True)
class ModelCost:
    """Cost of a whole model in training, without loss, optimiser and activation checkpointing.

    Attributes:
        parameters: Number of parameters.
        trained: Those that are not frozen.
        flops: Floating-point operations of the forward pass of one image.
        training_flops: Those of the forward and backward pass of one image.
        kept: Bytes that each image of a batch adds to what is kept for the backward pass, logits included.
        kept_bf16: The same under bfloat16 autocast.
    """

    parameters: int
    trained: int
    flops: int
    training_flops: int
    kept: int
    kept_bf16: int


def model_cost(config: dict, shape: Shape) -> ModelCost:
    """Return the cost of a model for one image.

    Args:
        config: Config of the segmentor.
        shape: Shape BxCxHxW of the images; B is not used.
    """
    one = (1, *shape[1:])
    with _fake_model(config) as model:
        parameters = list(model.parameters())
        kept = {}
        for half in (False, True):
            # Autocast copies weights once for a batch, so the difference of two batches is that of an image.
            live = []
            for batch in (1, 2):
                images = torch.zeros(batch, *shape[1:])
                with TensorMemory() as memory, torch.autocast('cpu', torch.bfloat16, enabled=half):
                    logits = _outputs(model, images)
                live.append(memory.live)
                del logits
            kept[half] = live[1] - live[0]
    return ModelCost(
        parameters=sum(x.numel() for x in parameters),
        trained=sum(x.numel() for x in parameters if x.requires_grad),
        flops=sum(part.flops for part in part_costs(config, one)),
        training_flops=training_flops(config, one),
        kept=kept[False],
        kept_bf16=kept[True],
    )


def part_costs(config: dict, shape: Shape) -> list[PartCost]:
    """Return the cost of each part in a forward pass, and of the rest unless it is zero.

    Args:
        config: Config of the model.
        shape: Shape BxCxHxW of the images.
    """
    flops: dict[str, int] = {}
    held: dict[str, int] = {}
    with _fake_model(config) as model:
        images = torch.zeros(shape)
        with flop_counter() as counter, TensorMemory() as memory:

            def add(name: str, sign: int) -> None:
                flops[name] = flops.get(name, 0) + sign * counter.get_total_flops()
                held[name] = held.get(name, 0) + sign * memory.live

            with watch_parts(model, lambda name: add(name, -1), lambda name: add(name, 1)):
                outputs = _outputs(model, images)
            total, live = counter.get_total_flops(), memory.live
            del outputs
        sizes = {name: _parameters(part) for name, part in parts_of(model).items()}
        rest = _parameters(model) - sum(sizes.values())
    parts = [PartCost(name, sizes[name], flops.get(name, 0), held.get(name, 0)) for name in sizes]
    remaining = PartCost(REST, rest, total - sum(flops.values()), live - sum(held.values()))
    if remaining.parameters or remaining.flops or remaining.activation_bytes:
        parts.append(remaining)
    return parts


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
