"""LoRA: low-rank adapters beside frozen weights (Hu et al. 2021, arXiv 2106.09685), through peft."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

TARGETS = ('qkv', 'in_proj_weight', 'q_proj', 'k_proj', 'v_proj')
"""Projections to queries, keys and values in timm and in ``VisionTransformer``."""
Model = TypeVar('Model', bound=nn.Module)
SIDE = 64  # pixels of the image of the trial step


def add_lora(
    backbone: nn.Module, settings: Mapping[str, Any], *, in_channels: int, size: tuple[int, int] | None
) -> None:
    """Freeze a backbone and add adapters to its layers.

    The adapters start without effect. Layers that are already frozen get none. ``settings`` are ``r``, the
    rank (8); ``alpha``, the scale times the rank (16); and ``target``, the last parts of the names of linear
    or convolutional layers, or of a weight that is not in such a layer (default: :data:`TARGETS`).

    Args:
        backbone: The backbone; changed in place.
        settings: ``model.backbone.lora`` of a config.
        in_channels: Channels of its images.
        size: (height, width) of its images if it accepts one size only.

    Raises:
        ImportError: If peft is missing.
        ValueError: If a setting is invalid, or a layer does not use its adapter.
    """
    settings = dict(settings)
    rank, alpha = settings.pop('r', 8), settings.pop('alpha', 16)
    target = settings.pop('target', None)
    if settings:
        raise ValueError(f'lora has unknown keys {sorted(settings)}: it takes r, alpha and target')
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, (int, float)) or alpha <= 0:
        raise ValueError(f'lora.r={rank!r} must be a whole number above 0, lora.alpha={alpha!r} one above 0')
    try:
        import peft

        from dpt.models.lora_weight import ParamWrapper, WeightAdapter
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            "lora needs peft: pip install 'dense-prediction-transformers[foundation]' "
            f'({str(error).splitlines()[0]})'
        ) from error
    modules, parameters = _find(backbone, target)
    config = peft.LoraConfig(
        r=rank, lora_alpha=cast(int, alpha), target_modules=modules, target_parameters=parameters or None
    )
    backbone.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about target_parameters
        peft.inject_adapter_in_model(config, backbone)
    for module in backbone.modules():
        if isinstance(module, ParamWrapper):
            module.__class__ = WeightAdapter
        if hasattr(module, 'lora_A'):  # in checkpoints, so that loading can compare it
            module.register_buffer('lora_scale', torch.tensor(alpha / rank))
    _check_gradients(backbone, (1, in_channels, *(size or (SIDE, SIDE))))


def _find(backbone: nn.Module, target: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the names of the trainable layers and of the other trainable weights that ``target`` names."""
    layers: list[str] = []
    weights: list[str] = []
    for name, module in backbone.named_modules():
        own = [key for key, parameter in module.named_parameters(recurse=False) if parameter.requires_grad]
        if isinstance(module, (nn.Linear, nn.Conv2d)) and own:
            layers.append(name)
        else:
            weights += [f'{name}.{key}' for key in own if module.get_parameter(key).ndim == 2]
    ends = TARGETS if target is None else (target,) if isinstance(target, str) else tuple(target)

    def named(names: list[str], *ends: str) -> list[str]:
        return [name for name in names if any(f'.{name}'.endswith(f'.{end}') for end in ends)]

    absent = [end for end in ends if not named([*layers, *weights], end)]
    if absent if target is not None else len(absent) == len(ends):
        known = dict.fromkeys(name.rpartition('.')[2] for name in (*layers, *weights))
        raise ValueError(
            f'lora.target: {type(backbone).__name__} has no trainable layer {", ".join(absent)}; '
            f'the names of its layers end in {", ".join(list(known)[:20]) or "none: all are frozen"}'
        )
    return named(layers, *ends), named(weights, *ends)


def _check_gradients(backbone: nn.Module, shape: tuple[int, ...]) -> None:
    """Take a trial step without changing anything, in which every adapter must get a gradient.

    Some attentions of timm read the weight of a layer instead of calling the layer. An adapter there would
    be trained without any effect.
    """
    adapters = {name: one for name, one in backbone.named_parameters() if '.lora_B.' in name}
    if any(one.is_meta for one in adapters.values()):
        return
    training = backbone.training
    backbone.eval()
    gradients: tuple = (None,) * len(adapters)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        maps = [tap if isinstance(tap, Tensor) else tap[0] for tap in backbone(torch.randn(shape))]
        loss = torch.stack([(one * torch.randn_like(one)).sum() for one in maps]).sum()
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, list(adapters.values()), allow_unused=True)
    backbone.train(training)
    for name, gradient in zip(adapters, gradients, strict=True):
        if gradient is None or not gradient.any():
            layer = name.partition('.lora_B.')[0]
            raise ValueError(
                f'lora.target: an adapter of {layer} would have no effect, because the model reads the '
                'weight of this layer instead of calling it; name other layers, such as '
                "target=['attn.proj', 'mlp.fc1', 'mlp.fc2'], or use a model without biases of q and v"
            )


def merged(model: Model) -> Model:
    """Return a copy with the adapters merged into the weights, and the keys of a model without adapters.

    Returns the model itself if it has no adapters.
    """
    if not any(hasattr(module, 'lora_A') for module in model.modules()):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = copy.deepcopy(model)
    layers = {name: one for name, one in model.named_modules() if isinstance(one, BaseTunerLayer)}
    for name in sorted(layers, key=len, reverse=True):  # from the inside out
        layers[name].merge(safe_merge=True)
        model.set_submodule(name, cast(Any, layers[name]).base_layer)
    return model
