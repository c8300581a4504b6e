"""What a module expects against what a file holds, and which setting of the config brings them together."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

_LISTED = 20  # keys of a kind shown in a message; the rest is counted


@dataclass(frozen=True)
class Differences:
    """Keys of our names: missing in the file, unexpected in the file, of another shape or kind of number."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.mismatched)


def compare(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Differences:
    """Compare names, shapes, and whether numbers are floating point; precision may differ."""
    return Differences(
        missing=tuple(key for key in expected if key not in found),
        unexpected=tuple(key for key in found if key not in expected),
        mismatched=tuple(key for key in expected if key in found and not _alike(expected[key], found[key])),
    )


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()


def explain(
    differences: Differences, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], prefix: str = ''
) -> str:
    """List the differences and the remedies that are known.

    Args:
        differences: what :func:`compare` returned for the next two.
        expected: the module's tensors.
        found: the file's tensors, under our names.
        prefix: what stands before the backbone's keys, ``'backbone.'`` in a whole model.
    """
    lines = [list_differences(differences, expected, found)]
    lines += [f'-> {hint}' for hint in _remedies(differences, expected, found, prefix)]
    return '\n'.join(lines)


def list_differences(
    differences: Differences, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> str:
    """List the keys of each kind of difference, one line a kind."""
    shapes = [
        f'{key}: {_kind(found[key])} in the file, {_kind(expected[key])} in the model'
        for key in differences.mismatched
    ]
    sections = (
        ('missing in the file', differences.missing),
        ('not in the model', differences.unexpected),
        ('of another shape', shapes),
    )
    return '\n'.join(f'{len(keys)} {title}: {_listed(keys)}' for title, keys in sections if keys)


def _kind(tensor: Tensor) -> str:
    return f'{"x".join(map(str, tensor.shape)) or "scalar"} {str(tensor.dtype).removeprefix("torch.")}'


def _listed(keys: list[str] | tuple[str, ...]) -> str:
    rest = len(keys) - _LISTED
    return ', '.join(keys[:_LISTED]) + (f' and {rest} more' if rest > 0 else '')


# (key of the backbone, setting where the file lacks it, setting where the model lacks it)
_SETTINGS = (
    (r'patch_embed\.projection\.bias', 'patch_bias=False', 'patch_bias=True'),
    (r'layers\.\d+\.attn\.attn\.in_proj_bias', 'qkv_bias=False', 'qkv_bias=True'),
    (r'layers\.\d+\.ls[12]\.gamma', 'layer_scale_init=None', 'layer_scale_init=1e-5'),
    (r'ln1\.(weight|bias)', 'final_norm=False', 'final_norm=True'),
)


def _remedies(
    differences: Differences, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], prefix: str
) -> list[str]:
    settings = _size_settings(differences, expected, found, prefix)
    layers_in_file = _count_layers(found, prefix)
    if layers_in_file not in (0, _count_layers(expected, prefix)):
        settings.append(f'num_layers={layers_in_file}')
    else:
        for pattern, if_missing, if_unexpected in _SETTINGS:
            full = re.compile(re.escape(prefix) + pattern)
            if any(full.fullmatch(key) for key in differences.missing):
                settings.append(if_missing)
            if any(full.fullmatch(key) for key in differences.unexpected):
                settings.append(if_unexpected)
    hints = [f'the file fits with model.backbone.{setting} in the config' for setting in settings]
    return hints + _other_hints(differences, expected, found, prefix)


def _count_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return sum(
        re.fullmatch(re.escape(prefix) + r'layers\.\d+\.ln1\.weight', key) is not None for key in tensors
    )


def _size_settings(
    differences: Differences, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], prefix: str
) -> list[str]:
    """Settings of the patch projection and the position embedding, read off the file's shapes."""
    projection, position = f'{prefix}patch_embed.projection.weight', f'{prefix}pos_embed'
    settings = []
    patch_size = found[projection].shape[-1] if projection in found and found[projection].ndim == 4 else 0
    if projection in differences.mismatched and patch_size:
        ours, theirs = expected[projection].shape, found[projection].shape
        for name, axis in (('patch_size', -1), ('embed_dims', 0), ('in_channels', 1)):
            if ours[axis] != theirs[axis]:
                settings.append(f'{name}={theirs[axis]}')
    if position in differences.mismatched and patch_size and found[position].ndim == 3:
        grid = _grid(found[position])
        positions_differ = found[position].shape[1] != expected[position].shape[1]
        if grid and positions_differ:
            settings.append(f'img_size={grid * patch_size}')
    return settings


def _grid(position: Tensor) -> int:
    """Side of the square grid behind a position embedding of shape 1x(1+N)xC; 0 where N is no square."""
    patches = position.shape[1] - 1
    side = math.isqrt(patches)
    return side if side * side == patches else 0


def _other_hints(
    differences: Differences, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], prefix: str
) -> list[str]:
    hints = []
    position, classifier = f'{prefix}pos_embed', 'decode_head.conv_seg.weight'
    if position in differences.mismatched and found[position].ndim == 3 and not _grid(found[position]):
        count = found[position].shape[1]
        hints.append(
            f'{position} holds {count} positions, not a class token and a square grid: another kind of ViT'
        )
    if classifier in differences.mismatched:
        theirs, ours = found[classifier].shape[0], expected[classifier].shape[0]
        if theirs != ours:
            hints.append(
                f"the file was trained for {theirs} classes, the model has {ours}: to keep the model's own "
                f"classifier, load with drop=('decode_head.conv_seg',), in a config "
                "model.init_cfg=dict(type='Pretrained', checkpoint=PATH, drop=['decode_head.conv_seg'])"
            )
    return hints
