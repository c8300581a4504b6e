"""What a config says of its backbone, read off the shapes of a plain ViT in our keys."""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from .format import Format

_PROJECTION = 'patch_embed.projection'
_LAYER = (
    'ln1.weight',
    'ln1.bias',
    'attn.attn.in_proj_weight',
    'attn.attn.out_proj.weight',
    'attn.attn.out_proj.bias',
    'ln2.weight',
    'ln2.bias',
    'ffn.layers.0.0.weight',
    'ffn.layers.0.0.bias',
    'ffn.layers.1.weight',
    'ffn.layers.1.bias',
)
_OPTIONAL = (('attn.attn.in_proj_bias',), ('ls1.gamma', 'ls2.gamma'))  # in every layer or in none


def check_complete(tensors: Mapping[str, Tensor]) -> None:
    """Make sure that the tensors are a whole ViT with a class token.

    Raises:
        ValueError: tensors are missing, or the position embedding has none for the class token.
    """
    if 'cls_token' not in tensors:
        raise ValueError(
            'there is no class token: a ViT that pools its patches, such as the visual tower of SigLIP, is '
            'another model than the backbone'
        )
    expected = ['pos_embed', f'{_PROJECTION}.weight']
    for i in range(_count_layers(tensors)):
        names = list(_LAYER)
        for group in _OPTIONAL:
            if any(re.fullmatch(rf'layers\.\d+\.{re.escape(group[0])}', key) for key in tensors):
                names.extend(group)
        expected += [f'layers.{i}.{name}' for name in names]
    missing = [key for key in expected if key not in tensors]
    if missing:
        shown = ', '.join(missing[:20])
        raise ValueError(f'{len(missing)} tensors of a whole ViT are missing, under our names: {shown}')
    _check_feed_forward(tensors)
    positions = tensors['pos_embed'].shape[1] if tensors['pos_embed'].ndim == 3 else 0
    if tensors['pos_embed'].ndim != 3 or math.isqrt(positions) ** 2 == positions:
        raise ValueError(
            f'the position embedding is of shape {"x".join(map(str, tensors["pos_embed"].shape))}: it has no '
            'entry for the class token (as in DeiT III), so this is another model than the backbone'
        )


def _check_feed_forward(tensors: Mapping[str, Tensor]) -> None:
    """Tell a gated feed-forward part, which has the very same keys, by its sizes."""
    first, second = (tensors[f'layers.0.ffn.layers.{name}.weight'] for name in ('0.0', '1'))
    if first.shape[0] != second.shape[-1]:
        raise ValueError(
            f'the feed-forward part makes {first.shape[0]} channels and takes up {second.shape[-1]}: it is '
            'gated (SwiGLU, as in DINOv2 ViT-g), which the backbone has not'
        )


def _count_layers(tensors: Mapping[str, Tensor]) -> int:
    """One more than the highest number of a layer, so that a gap shows as missing tensors."""
    numbers = [int(match[1]) for key in tensors if (match := re.match(r'layers\.(\d+)\.', key))]
    return max(numbers, default=0) + 1


def backbone_settings(
    tensors: Mapping[str, Tensor], source: Format, num_heads: int | None = None
) -> list[str]:
    """Lines for the user: what the config of a model with these weights must say.

    Args:
        tensors: a whole ViT under our names, see :func:`check_complete`.
        source: where it comes from.
        num_heads: the number of attention heads where the source tells it.
    """
    projection, hidden = tensors[f'{_PROJECTION}.weight'], tensors['layers.0.ffn.layers.0.0.weight']
    width, channels, *patch = projection.shape
    grid = math.isqrt(tensors['pos_embed'].shape[1] - 1)
    is_square = grid * grid == tensors['pos_embed'].shape[1] - 1
    settings = [f'embed_dims={width}', f'num_layers={_count_layers(tensors)}', f'patch_size={patch[0]}']
    if is_square:
        settings.append(f'img_size={grid * patch[0]}')
    if channels != 3:
        settings.append(f'in_channels={channels}')
    if hidden.shape[0] != 4 * width:
        settings.append(f'mlp_ratio={hidden.shape[0] / width:g}')
    settings += _switches(tensors)
    if source.norm_eps is not None:
        settings.append(f'norm_eps={source.norm_eps:g}')
    if num_heads is not None:
        settings.append(f'num_heads={num_heads}')
    lines = [f'backbone=dict({", ".join(settings)})']
    if num_heads is None:
        lines.append(_about_heads(width))
    if not is_square:
        count = tensors['pos_embed'].shape[1] - 1
        lines.append(f'img_size: (height, width) of the pretraining images, which made {count} patches')
    return [*lines, _about_pixels(source)]


def _switches(tensors: Mapping[str, Tensor]) -> list[str]:
    settings = []
    if f'{_PROJECTION}.bias' not in tensors:
        settings.append('patch_bias=False')
    if 'layers.0.attn.attn.in_proj_bias' not in tensors:
        settings.append('qkv_bias=False')
    if 'layers.0.ls1.gamma' in tensors:
        settings.append('layer_scale_init=1e-5')
    return settings


def _about_heads(width: int) -> str:
    conventional = f'{width // 64} here' if width % 64 == 0 else f'which {width} is no multiple of'
    return (
        f'num_heads: not in the file; heads of 64 channels are the convention, {conventional} '
        '(ViT-H has 16 heads of 80): see where the weights come from'
    )


def _about_pixels(source: Format) -> str:
    if source.mean_std is None:
        return (
            'data_preprocessor: mean and std differ between models of this source: see where they come from'
        )
    mean, std = (list(values) for values in source.mean_std)
    return f'data_preprocessor=dict(mean={mean}, std={std})'
