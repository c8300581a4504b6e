"""Keys of LoRA adapters, which peft adds beside the weights of a layer.

In a layer ``qkv`` with adapters the weight is ``qkv.base_layer.weight``, and the adapters are
``qkv.lora_A.default.weight`` and ``qkv.lora_B.default.weight``; ``qkv.lora_scale`` is alpha / r.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .formats import Report

ADAPTER = '.lora_'
SCALE = 'lora_scale'
"""Name of the buffer with the factor of an adapter."""
BASE_SHA256 = 'backbone_sha256'
"""Entry of the metadata of a file with adapters but without the weights they were trained on."""


def has_adapters(keys: Iterable[str]) -> bool:
    """Return whether any key is that of an adapter."""
    return any(ADAPTER in key for key in keys)


def ordinary_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with the keys of a model without adapters; adapters keep theirs."""
    if not has_adapters(tensors):
        return dict(tensors)
    return {key.replace('.base_layer.', '.'): tensor for key, tensor in tensors.items()}


def is_base(key: str) -> bool:
    """Return whether a key of a whole model is that of a weight of the backbone, not of an adapter."""
    return key.startswith('backbone.') and ADAPTER not in key


def base_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the weights of the backbone, without adapters, in a whole model."""
    digest = hashlib.sha256()
    for key, tensor in sorted(ordinary_keys(tensors).items()):
        if is_base(key):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def keep_adapters(report: Report, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Report:
    """Let adapters of the module keep their values if the file has none."""
    if has_adapters(found):
        return report
    adapters = (key for key in expected if ADAPTER in key and key not in report.kept)
    return replace(report, kept=(*report.kept, *adapters))


def check_scale(path: str | Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError if LoRA adapters were trained with another scale, which their shapes do not show."""
    for key, tensor in found.items():
        if key.endswith(f'.{SCALE}') and not math.isclose(tensor, expected[key], rel_tol=0.01):
            raise ValueError(
                f'{path}: its LoRA adapters were trained with lora.alpha / lora.r = {tensor.item():g}, the '
                f'model has {expected[key].item():g}; nothing was loaded. Set model.backbone.lora.alpha to '
                f'{tensor.item():g} * lora.r'
            )
