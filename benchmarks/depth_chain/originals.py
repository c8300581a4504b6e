"""Models built by the code that their weights were published with, with random weights."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_chain.table import REFERENCES

Forward = Callable[[Tensor], Tensor]


@contextmanager
def importing(name: str, *packages: str, folder: str = '.') -> Iterator[None]:
    """Import ``packages`` from the clone ``name``, and forget them at the end.

    Their names may be those of other packages: the original DPT is called ``dpt``, too.
    """
    path = REFERENCES[name] / folder

    def taken() -> dict[str, Any]:
        return {key: sys.modules.pop(key) for key in [*sys.modules] if key.split('.')[0] in packages}

    before, where = taken(), Path.cwd()
    sys.path.insert(0, str(path))
    os.chdir(path)
    try:
        yield
    finally:
        taken()
        sys.modules.update(before)
        sys.path.remove(str(path))
        os.chdir(where)


def randomise(model: nn.Module) -> nn.Module:
    """Fill all parameters and statistics so that no two are alike and activations keep their scale."""
    generator = torch.Generator().manual_seed(0)
    tensors = model.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            if not tensor.is_floating_point() or name.endswith(('periods', 'bias_mask')):
                continue
            if f'{name}_mask' in tensors:  # DINOv3 was published without biases of q, k and v
                tensor.zero_()
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith('running_var'):
                tensor.copy_(1 + noise.abs() / 4)
            elif tensor.ndim == 1 and name.endswith(('weight', 'gamma', 'lambda1')):
                tensor.copy_(1 + noise / 4)
            elif tensor.ndim < 2:
                tensor.copy_(noise / 10)
            else:
                fan_in = tensor[0].numel() if tensor.ndim != 3 else tensor.shape[-1] ** 0.5
                tensor.copy_(noise / fan_in**0.5)
    return model.eval()


def isl_depth(encoder: str, **options: Any) -> tuple[nn.Module, Forward]:
    """Return ``DPTDepthModel`` of isl-org/DPT, with the encoder of the installed timm."""
    with importing('dpt', 'dpt'):
        from dpt.models import DPTDepthModel

        model = DPTDepthModel(backbone=encoder, **options)
    standardise_as_timm_045(model)
    return model, lambda x: model(x)[:, None]


def isl_segmentation(encoder: str, num_classes: int) -> tuple[nn.Module, Forward]:
    """Return ``DPTSegmentationModel`` of isl-org/DPT."""
    with importing('dpt', 'dpt'):
        from dpt.models import DPTSegmentationModel

        model = DPTSegmentationModel(num_classes, backbone=encoder)
    standardise_as_timm_045(model)
    return model, model


def standardise_as_timm_045(model: nn.Module) -> None:
    """Standardise the filters of the stem as timm 0.4.5, which trained it: by the std plus 1e-5."""
    for module in model.modules():
        if type(module).__name__ == 'StdConv2dSame':
            module.forward = functools.partial(_standardised_conv, module)


def _standardised_conv(conv: Any, x: Tensor) -> Tensor:
    from timm.layers import pad_same

    std, mean = torch.std_mean(conv.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
    weight = (conv.weight - mean) / (std + 1e-5)
    x = pad_same(x, conv.kernel_size, conv.stride, conv.dilation)
    return F.conv2d(x, weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


def depth_anything_v1(**options: Any) -> tuple[nn.Module, Forward]:
    """Return ``DPT_DINOv2`` of LiheYoung/Depth-Anything."""
    with importing('depth-anything', 'depth_anything', 'vision_transformer', 'utils', 'dinov2', 'hubconf'):
        from depth_anything.dpt import DPT_DINOv2

        model = DPT_DINOv2(**options)
    return model, lambda x: model(x)[:, None]


def depth_anything_v2(folder: str = '.', **options: Any) -> tuple[nn.Module, Forward]:
    """Return ``DepthAnythingV2``; ``folder`` is ``'metric_depth'`` for metric depth."""
    with importing('depth-anything-v2', 'depth_anything_v2', folder=folder):
        from depth_anything_v2.dpt import DepthAnythingV2

        model = DepthAnythingV2(**options)
    return model, lambda x: model(x)[:, None]


def unimatch_v2(**options: Any) -> tuple[nn.Module, Forward]:
    """Return ``DPT`` of LiheYoung/UniMatch-V2."""
    with importing('unimatch-v2', 'model'):
        from model.semseg.dpt import DPT

        model = DPT(**options)
    return model, model


def dinov2_depther(arch: str) -> tuple[nn.Module, Forward]:
    """Return the depth model of facebookresearch/dinov2 with its DPT head; depth is not yet clamped."""
    with importing('dinov2', 'dinov2'):
        from dinov2.hub.depthers import _make_dinov2_dpt_depther

        model = _make_dinov2_dpt_depther(arch_name=arch, pretrained=False)
    return model, lambda x: model.decode_head(list(model.extract_feat(x)), None)


def dinov3_depther(**options: Any) -> tuple[nn.Module, Forward]:
    """Return the depth model of facebookresearch/dinov3 with its DPT head, without its autocast."""
    with importing('dinov3', 'dinov3'):
        from dinov3.eval.depth.models import build_depther
        from dinov3.hub.backbones import dinov3_vits16

        model = build_depther(dinov3_vits16(pretrained=False), **options)
    return model, lambda x: model.features_to_depth(model.decoder(list(model.encoder(x))))
