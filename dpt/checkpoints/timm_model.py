"""Check weights for TimmBackbone beyond keys and shapes, which some wrong weights fit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .formats import ACTIVATIONS, HUGGING_FACE_FILES, PERIODS, default_activation
from .read import local_file


def fixed_periods(module: Any, found: Mapping[str, Tensor], path: str | Path) -> set[str]:
    """Return the key of the periods of Meta's DINOv3, which a model of timm computes.

    Raises:
        ValueError: If they are not those of the model. Meta rounds them to bfloat16.
    """
    own = getattr(getattr(module.model, 'rope', None), 'periods', None)
    if PERIODS not in found or own is None:
        return set()
    own, theirs = own.float().cpu(), found[PERIODS].float()
    if own.shape != theirs.shape or not torch.allclose(theirs, own, rtol=2**-7, atol=0):
        raise ValueError(
            f'{path}: the periods of its rotary position embedding are not those of {module.model_name}; '
            f'nothing was loaded. In the file: {theirs.tolist()}; in the model: {own.tolist()}'
        )
    return {PERIODS}


def check_activation(module: Any, path: str | Path) -> None:
    """Compare the activation with that of the ``config.json`` of a model of transformers.

    Only files that ``save_pretrained`` of transformers writes have one, not others in the same folder.

    Raises:
        ValueError: If they differ. The keys fit nevertheless, and the features would be wrong.
    """
    if str(path).startswith('timm://'):  # not of transformers; the file would be hashed once more
        return
    weights = local_file(path)
    if weights.name not in HUGGING_FACE_FILES:
        return
    file = weights.with_name('config.json')
    try:
        config = json.loads(file.read_bytes())
        config = config.get('vision_config', config)
        name = config.get('hidden_act') or default_activation(config.get('model_type'))
    except (OSError, ValueError, AttributeError):
        return
    if not isinstance(name, str):
        return
    wanted = ACTIVATIONS.get(name)
    known = set(ACTIVATIONS.values())
    kinds = {type(one).__name__ for one in module.modules()} & known
    if wanted and kinds and wanted not in kinds:
        raise ValueError(
            f'{path}: according to its {file.name}, the activation is {name!r}, but {module.model_name} '
            f'uses {", ".join(sorted(kinds))}: '
            f"set model.backbone.model_args=dict(act_layer='{str(name).replace('pytorch_', '')}')"
        )
