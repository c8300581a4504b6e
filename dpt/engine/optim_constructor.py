"""Parameter groups of the optimiser."""

from mmengine.optim import DefaultOptimWrapperConstructor as _DefaultOptimWrapperConstructor
from mmengine.optim import OptimWrapper
from torch import nn

from dpt.engine.quiet import only_errors
from dpt.registry import OPTIM_WRAPPER_CONSTRUCTORS


def merge_groups(groups: list[dict]) -> list[dict]:
    """Join groups that differ in nothing but their parameters, in order of first appearance."""
    merged: dict[str, dict] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != 'params'}
        kept = merged.setdefault(repr(sorted(settings.items())), dict(settings, params=[]))
        kept['params'].extend(group['params'])
    return list(merged.values())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DefaultOptimWrapperConstructor(_DefaultOptimWrapperConstructor):
    """mmengine's rules (``paramwise_cfg``), with one group per learning rate and decay, not per tensor.

    Few groups are what fused optimisers are fast with, and one line tells them instead of hundreds.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper of an optimiser whose groups are plain dicts.

        Those of the engine are of the config, whose every look-up costs five times as much.
        """
        wrapper = super().__call__(model)
        groups = wrapper.optimizer.param_groups
        groups[:] = [{name: group[name] for name in group} for group in groups]
        return wrapper

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: bool | None = None
    ) -> None:
        """Append the groups of ``module`` to ``params``."""
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        with only_errors() as logger:  # the parent reports every tensor
            super().add_params(params, module, prefix, is_dcn_module)
        params[:] = merge_groups(params)
        for group in params:
            lr, decay = group.get('lr', self.base_lr), group.get('weight_decay', self.base_wd)
            logger.info(f'optimiser: {len(group["params"])} tensors, lr {lr}, decay {decay}')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MMSegOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Rules in MMSegmentation's names, where ``decode_head`` holds what is the neck here.

    A key such as ``head`` of ``custom_keys`` thus reaches the neck, too, and ``neck`` reaches nothing.
    """

    def add_params(  # noqa: D102
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: bool | None = None
    ) -> None:
        super().add_params(params, module, 'decode_head' if prefix == 'neck' else prefix, is_dcn_module)
