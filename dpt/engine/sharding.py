"""Sharded training with FSDP2: processes share parameters, gradients and the state of the optimiser.

Each process holds one shard of them and gathers the parameters of a layer only while it computes the layer.
Losses are those of DistributedDataParallel, and checkpoints have the same content: they hold whole tensors.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.dist import broadcast, get_world_size
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

KEYS = ('min_params',)


def check_sharding(runner: Runner) -> None:
    """Check that ``fsdp`` of the config fits the rest of it.

    Raises:
        ValueError: With the key that does not fit.
    """
    config = runner.cfg
    if not isinstance(config.fsdp, Mapping):
        raise ValueError(f'fsdp must be a dict with any of {", ".join(KEYS)}; got {config.fsdp}')
    if unknown := sorted(set(config.fsdp) - set(KEYS)):
        raise ValueError(f'fsdp must be a dict with any of {", ".join(KEYS)}; got unknown keys {unknown}')
    if config.get('model_wrapper_cfg') is not None:
        raise ValueError('fsdp and model_wrapper_cfg exclude each other: remove one of them')
    if any(isinstance(hook, EMAHook) for hook in runner.hooks):
        raise ValueError('fsdp does not work with EMAHook, which copies the whole model: remove one of them')
    if str(config.optim_wrapper.get('dtype')).rpartition('.')[2] == 'float16':
        raise ValueError('fsdp does not work with optim_wrapper.dtype=float16: use bfloat16')


def shard(model: nn.Module, *, min_params: int = 1_000_000) -> None:
    """Shard a model over all processes, in place, with the weights of rank 0.

    Args:
        model: The model, on its device.
        min_params: Items of module lists and sequences, such as transformer layers, with at least this many
            parameters are gathered one at a time, in the forward and again in the backward pass; the other
            modules together.
    """
    for tensor in [*model.parameters(), *model.buffers()]:
        broadcast(tensor.data, 0)
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (get_world_size(),))
    for module in _layers(model, min_params):
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _layers(model: nn.Module, min_params: int) -> list[nn.Module]:
    """Return the outermost items of module lists and sequences that are large enough."""
    found: list[nn.Module] = []
    for module in model.children():
        if isinstance(module, (nn.ModuleList, nn.Sequential)):
            for item in module:
                if sum(parameter.numel() for parameter in item.parameters()) >= max(min_params, 1):
                    found.append(item)
        else:
            found += _layers(module, min_params)
    return found


def is_sharded(model: nn.Module) -> bool:
    """Whether :func:`shard` was applied to the model."""
    return isinstance(model, FSDPModule)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Gather all parameters of a sharded model for a validation.

    Forward passes need no communication then: processes may validate different numbers of images.
    """
    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.reshard()
            module.set_reshard_after_forward(module is not model, recurse=False)


def whole_tensors(value: Any) -> Any:
    """Return a copy of nested containers with whole tensors instead of sharded ones; for all processes."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, Mapping):
        return {key: whole_tensors(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(whole_tensors(one) for one in value)
    return value


def _like(value: Tensor, sharded: Tensor) -> Tensor:
    """Return ``value`` sharded as ``sharded``, a tensor of the same shape."""
    if isinstance(sharded, DTensor) and value.shape == sharded.shape:
        return distribute_tensor(value.to(sharded.device), sharded.device_mesh, sharded.placements)
    return value


def load_weights(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load whole tensors into a model that may be sharded, strictly."""
    own = model.state_dict()
    model.load_state_dict({key: _like(value, own[key]) for key, value in state.items()})


def load_optimizer(wrapper: OptimWrapper | OptimWrapperDict, state: Mapping) -> None:
    """Load an optimiser state with whole tensors into a wrapper whose parameters may be sharded.

    The implementation of the optimiser (``fused``, ``foreach``) stays the current one, because the checkpoint
    may come from another device.
    """
    if isinstance(wrapper, OptimWrapperDict):
        for name, one in wrapper.items():
            load_optimizer(one, state[name])
        return
    parameters = [p for group in wrapper.optimizer.param_groups for p in group['params']]
    indices = [index for group in state['param_groups'] for index in group['params']]
    if any(isinstance(p, DTensor) for p in parameters) and len(parameters) == len(indices):
        entries = {
            index: {
                key: _like(value, parameter) if isinstance(value, Tensor) else value
                for key, value in state['state'][index].items()
            }
            for index, parameter in zip(indices, parameters, strict=True)
            if index in state['state']
        }
        state = {**state, 'state': entries}
    groups = [dict(group) for group in state['param_groups']]
    for group, own in zip(groups, wrapper.optimizer.param_groups, strict=False):  # torch compares the numbers
        group.update({key: own[key] for key in ('fused', 'foreach') if key in own})
    wrapper.load_state_dict({**state, 'param_groups': groups})
