"""Optimiser wrappers, mixed precision and parameter groups."""

import copy
import inspect
import logging
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper as _AmpOptimWrapper
from mmengine.optim import DefaultOptimWrapperConstructor as _DefaultOptimWrapperConstructor
from mmengine.optim import OptimWrapper as _OptimWrapper
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer

from dpt.engine.non_finite import FiniteSteps
from dpt.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

FUSED = ('Adam', 'AdamW', 'SGD', torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
"""Optimisers with a fused implementation on GPUs, which can skip a step without waiting for the host."""
IMPLEMENTATIONS = ('fused', 'foreach', 'capturable', 'differentiable')
"""Arguments of torch's optimisers that select the implementation."""


def preferred_amp_dtype() -> torch.dtype:
    """Return bfloat16 if the device supports it (every CPU does), else float16."""
    # Older GPUs such as V100 emulate bfloat16, which is far slower than float16.
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(FiniteSteps, _OptimWrapper):
    """mmengine's wrapper, with steps skipped by :class:`FiniteSteps`."""


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(FiniteSteps, _AmpOptimWrapper):
    """mmengine's wrapper for mixed precision, also on CPUs, with steps skipped by :class:`FiniteSteps`.

    Args:
        loss_scale: ``'dynamic'``, a fixed scale, or arguments of ``torch.amp.GradScaler``. Used with float16
            only.
        dtype: ``'bfloat16'``, ``'float16'``, or ``None`` for :func:`preferred_amp_dtype`.
        **kwargs: Arguments of :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(
        self, loss_scale: str | float | dict = 'dynamic', dtype: str | torch.dtype | None = None, **kwargs
    ) -> None:
        # Skip the parent's constructor, which fails without a GPU.
        _OptimWrapper.__init__(self, **kwargs)
        if isinstance(dtype, str):
            if dtype not in ('bfloat16', 'float16'):
                raise ValueError(f"optim_wrapper.dtype={dtype!r} must be 'bfloat16', 'float16' or None")
            dtype = getattr(torch, dtype)
        self.cast_dtype = dtype or preferred_amp_dtype()
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if device == 'cpu' and self.cast_dtype is not torch.bfloat16:
            raise ValueError(f'optim_wrapper.dtype={dtype} needs a GPU: on a CPU use bfloat16 or None')
        if isinstance(loss_scale, str) and loss_scale != 'dynamic':
            raise ValueError(
                f"optim_wrapper.loss_scale={loss_scale!r} must be 'dynamic', a number or a dict of arguments"
            )
        options = dict(loss_scale) if isinstance(loss_scale, dict) else {}
        if isinstance(loss_scale, (int, float)):
            options['init_scale'] = float(loss_scale)
        self._scale_update_param = options['init_scale'] if isinstance(loss_scale, (int, float)) else None
        self.loss_scaler = torch.amp.GradScaler(device, enabled=self.cast_dtype is torch.float16, **options)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state of the optimiser and, if saved, of the scaler; bf16 runs have no scaler state."""
        if not state_dict.get('loss_scaler'):
            state_dict = {key: value for key, value in state_dict.items() if key != 'loss_scaler'}
        super().load_state_dict(state_dict)


def enable_amp(config: Config) -> None:
    """Switch the optimiser wrapper to mixed precision with :func:`preferred_amp_dtype`.

    Raises:
        ValueError: If the config has an optimiser wrapper that cannot be replaced.
    """
    wrapper = config.optim_wrapper
    if wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(f'--amp cannot replace optim_wrapper.type={wrapper.type!r}')
    wrapper.type = 'AmpOptimWrapper'
    wrapper.setdefault('dtype', str(preferred_amp_dtype()).removeprefix('torch.'))


def merge_groups(groups: list[dict]) -> list[dict]:
    """Merge parameter groups with equal settings, in order of first appearance."""
    merged: dict[str, dict] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != 'params'}
        kept = merged.setdefault(repr(sorted(settings.items())), dict(settings, params=[]))
        kept['params'].extend(group['params'])
    return list(merged.values())


def try_step(optimizer: Optimizer) -> int | None:
    """Take a step on a single weight, with a copy of its state if there is one.

    It fails for optimisers that need sparse gradients or a closure, and for a state that another optimiser or
    other options saved.

    Returns:
        Number of values that the optimiser keeps for each weight, such as 2 for AdamW; None if unknown.

    Raises:
        ValueError: If the step fails.
    """
    kind, states = type(optimizer), optimizer.state
    device = optimizer.param_groups[0]['params'][0].device
    weight = nn.Parameter(next(iter(states), torch.zeros(8, 8, device=device)).detach().clone())
    known = inspect.signature(kind).parameters  # AdamW of torch has a default that its constructor refuses
    try:
        trial = kind([weight], **{key: value for key, value in optimizer.defaults.items() if key in known})
    except (TypeError, ValueError):  # its constructor takes other arguments
        return None
    for state in list(states.values())[:1]:
        trial.state[weight] = copy.deepcopy(state)
    weight.grad = torch.zeros_like(weight)
    try:
        trial.step()
    except Exception as error:  # noqa: BLE001 (optimisers of other packages raise any exception)
        raise ValueError(f'optim_wrapper.optimizer.type={kind.__name__!r} cannot be used: {error}') from error
    kept = (value for value in trial.state.get(weight, {}).values() if isinstance(value, torch.Tensor))
    return sum(value.shape == weight.shape for value in kept)


def describe_frozen(model: nn.Module, optimizer: Optimizer | None) -> str | None:
    """Return a line on what freezing saves: counts of parameters, and memory of gradients and optimiser.

    Returns None if nothing is frozen. The memory is that of one process without sharding.
    """
    everything = list(model.parameters())
    trainable = [one for one in everything if one.requires_grad]
    if len(trainable) == len(everything):
        return None
    count, of = (sum(one.numel() for one in some) for some in (trainable, everything))
    line = f'frozen parts: {count:,} of {of:,} parameters are trained ({100 * count / of:.1f} %)'
    values = None if optimizer is None else try_step(optimizer)
    if values is None:
        return line
    taken, without = (
        sum(one.numel() * one.element_size() for one in some) * (1 + values) / 2**20
        for some in (trainable, everything)
    )
    return (
        f'{line}; gradients and optimiser state take {taken:,.1f} MiB instead of {without:,.1f} MiB '
        f'({100 - 100 * taken / without:.1f} % less)'
    )


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DefaultOptimWrapperConstructor(_DefaultOptimWrapperConstructor):
    """mmengine's constructor (``paramwise_cfg``), with merged parameter groups instead of one per tensor.

    Fused optimisers are faster with few groups, and the log is hundreds of lines shorter.
    """

    optimizer_cfg: dict

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser wrapper, with plain dicts as parameter groups.

        mmengine uses ConfigDicts, whose lookups take five times as long.
        """
        kind = self.optimizer_cfg['type']
        if kind in ('ZeroRedundancyOptimizer', ZeroRedundancyOptimizer):
            raise ValueError(
                f'optim_wrapper.optimizer.type={kind!r} cannot be used: a checkpoint would contain only a '
                'part of its state. Use the optimizer_type that it wraps'
            )
        on_gpu = all(parameter.is_cuda for parameter in model.parameters())
        if on_gpu and kind in FUSED and not set(IMPLEMENTATIONS) & set(self.optimizer_cfg):
            self.optimizer_cfg = dict(self.optimizer_cfg, fused=True)
            MMLogger.get_current_instance().info('optimiser: fused=True, because the config does not set it')
        wrapper = super().__call__(model)
        try_step(wrapper.optimizer)
        names = [name for name, _ in model.named_parameters()]
        for key, settings in (self.paramwise_cfg.get('custom_keys') or {}).items():
            if settings.get('lr_mult', 1) != 1 and not any(key in name for name in names):
                MMLogger.get_current_instance().warning(
                    f'optim_wrapper.paramwise_cfg.custom_keys: no parameter has {key!r} in its name, so its '
                    'lr_mult has no effect'
                )
        groups = wrapper.optimizer.param_groups
        groups[:] = [{name: group[name] for name in group} for group in groups]
        return wrapper

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: bool | None = None
    ) -> None:
        """Append the parameter groups of ``module`` to ``params``."""
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(logging.ERROR)  # mmengine logs every tensor
        try:
            super().add_params(params, module, prefix, is_dcn_module)
        finally:
            logger.setLevel(level)
        params[:] = merge_groups(params)
        self._log(params)

    def _log(self, params: list[dict]) -> None:
        for group in params:
            lr, decay = group.get('lr', self.base_lr), group.get('weight_decay', self.base_wd)
            MMLogger.get_current_instance().info(
                f'optimiser: {len(group["params"])} tensors, lr {lr}, decay {decay}'
            )


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MMSegOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Constructor for ``paramwise_cfg`` rules that use MMSegmentation's parameter names.

    There the neck is part of ``decode_head``. In ``custom_keys`` a key such as ``head`` therefore also
    matches the neck, and ``neck`` matches nothing.
    """

    def add_params(  # noqa: D102
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: bool | None = None
    ) -> None:
        super().add_params(params, module, 'decode_head' if prefix == 'neck' else prefix, is_dcn_module)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LearningRateDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    """Learning rate that decays from the last layer of the backbone to the first.

    With N layers or stages, layer i has the learning rate ``lr * decay_rate ** (N + 1 - i)``. The embeddings
    or stem are layer 0, a final norm belongs to layer N, and everything after the backbone has the full
    rate. Biases, norms and other vectors, the position embedding and the class token have no weight decay.
    Source: BEiT, arXiv 2106.08254.

    The backbone's method ``layer_numbers(stages=...)`` returns the layer of each parameter by name.

    Args:
        optim_wrapper_cfg: Config of the optimiser wrapper.
        paramwise_cfg: ``decay_rate``; ``decay_type``, which is ``'layer_wise'`` (default) or
            ``'stage_wise'``; and ``num_layers``. This is N; without it N is what the backbone has. With
            ``'stage_wise'`` it may be larger, as in MMSegmentation's ConvNeXt, which lowers the rate of the
            whole backbone.

    Raises:
        ValueError: If a key of ``paramwise_cfg`` is unknown or invalid, or does not fit the backbone.
    """

    paramwise_keys = ('num_layers', 'decay_rate', 'decay_type')

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        key, settings = 'optim_wrapper.paramwise_cfg', self.paramwise_cfg or {}
        if unknown := sorted(set(settings) - set(self.paramwise_keys)):
            raise ValueError(
                f'{key} has unknown keys {unknown}: {type(self).__name__} takes '
                f'{", ".join(self.paramwise_keys)}'
            )
        rate, kind = settings.get('decay_rate'), settings.get('decay_type', 'layer_wise')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(f'{key}.decay_rate={rate!r} must be a number above 0, at most 1')
        if kind not in ('layer_wise', 'stage_wise'):
            raise ValueError(f"{key}.decay_type={kind!r} must be 'layer_wise' or 'stage_wise'")

    def _count(self, numbers: dict[str, int], stages: bool) -> int:
        """Return ``num_layers``, by default that of the backbone."""
        found = max(numbers.values())
        count = self.paramwise_cfg.get('num_layers') or found
        if count < found or (count > found and not stages):
            raise ValueError(
                f'optim_wrapper.paramwise_cfg.num_layers={count} does not fit the backbone, which has '
                f'{found} {"stages" if stages else "layers"}: remove the key'
            )
        return count

    def add_params(  # noqa: D102
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: bool | None = None
    ) -> None:
        backbone: Any = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'layer_numbers'):
            raise ValueError(
                f'optim_wrapper.constructor={type(self).__name__!r}: {type(backbone).__name__} has no method '
                'layer_numbers, which says which layer a parameter belongs to'
            )
        stages = self.paramwise_cfg.get('decay_type') == 'stage_wise'
        numbers = backbone.layer_numbers(stages=stages)
        last = self._count(numbers, stages) + 1
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            number = numbers[name.removeprefix('backbone.')] if name.startswith('backbone.') else last
            rate = self.paramwise_cfg['decay_rate'] ** (last - number)
            group = dict(params=[parameter], lr=self.base_lr * rate)
            flat = parameter.ndim <= 1 or name.endswith('.bias')
            if flat or name.split('.')[-1] in ('pos_embed', 'cls_token'):
                group['weight_decay'] = 0.0
            elif self.base_wd is not None:
                group['weight_decay'] = self.base_wd
            params.append(group)
        params[:] = merge_groups(params)
        self._log(params)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimizerConstructor(LearningRateDecayOptimizerConstructor):
    """The same under MMSegmentation's older name, which calls the rate ``layer_decay_rate``."""

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        settings = dict(paramwise_cfg or {})
        if 'layer_decay_rate' in settings:
            settings['decay_rate'] = settings.pop('layer_decay_rate')
        super().__init__(optim_wrapper_cfg, settings)
