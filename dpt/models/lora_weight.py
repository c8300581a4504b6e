"""Adapters of a weight that is not in a layer, without peft's graph break in ``torch.compile``."""

from typing import Any

from peft.tuners.lora.layer import ParamWrapper
from torch.func import functional_call


class WeightAdapter(ParamWrapper):
    """peft's ``ParamWrapper``, which calls its module with the adapted weight instead of storing it there.

    In every forward pass ``ParamWrapper`` registers a parametrization and removes it again, which
    ``torch.compile`` cannot trace. Values, gradients, keys and merging are the same.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.merged or self.disable_adapters:
            return super().forward(*args, **kwargs)
        weight = self.get_param() + sum(self.get_delta_weight(name) for name in self.active_adapters)
        key, module = self.parameter_name, self.base_layer
        while isinstance(module, ParamWrapper):  # of another weight of the same module
            key, module = f'base_layer.{key}', module.base_layer
        return functional_call(self.base_layer, {key: weight}, args, kwargs)
