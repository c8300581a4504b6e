"""Where a ViT looks, and what the readout of the class token changes.

The backbone computes attention by a fused kernel that gives no weights. They are computed here, from the
input of the layers that are asked for, in a forward pass that the model runs as ever: hooks read alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HYBRID_STRIDE = 16
"""Pixels of the image in one of the map that a hybrid's stem hands to the transformer."""


@dataclass
class TapMaps:
    """Maps of one tap layer, on the grid of patches of shape hxw.

    Args:
        layer: Number of the layer, from 0.
        patch: Side of a patch in pixels.
        attention: Attention from the query to each patch, a map a head, of shape (heads)xhxw; with that to
            the class token, a head's sum is one.
        to_class_token: Attention from the query to the class token, of shape (heads).
        readout: How far the class token moves each patch in the neck's readout, relative to the length of
            the patch without; None where the neck has no readout of this tap.
    """

    layer: int
    patch: int
    attention: Tensor
    to_class_token: Tensor
    readout: Tensor | None = None


def attention_row(module: Any, x: Tensor, query: int) -> Tensor:
    """Return the weights with which one token looks at all.

    Args:
        module: The backbone's ``MultiheadAttention``.
        x: Its input, of shape 1xNxC.
        query: Number of the token, 0 for the class token.

    Returns:
        Weights of shape (heads)xN, float32; each head's sum is one.
    """
    channels, heads = x.shape[-1], module.num_heads
    weights = module.in_proj_weight.float()
    bias = None if module.in_proj_bias is None else module.in_proj_bias.float()
    x = x[0].float()
    q = F.linear(x[query], weights[:channels], None if bias is None else bias[:channels])
    k = F.linear(x, weights[channels : 2 * channels], None if bias is None else bias[channels : 2 * channels])
    q, k = q.view(heads, 1, -1), k.view(len(x), heads, -1).transpose(0, 1)  # headsx1xd, headsxNxd
    return (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1)[:, 0]


def readout_change(reassemble: Any, level: int, tap: tuple[Tensor, Tensor]) -> Tensor | None:
    """Return how far the class token moves each patch, relative to its length: ``|y - y0| / |y0|``.

    ``y0`` is what the readout gives for a class token of zeros.

    Args:
        reassemble: The neck's ``ReassembleBlocks``.
        level: Number of the tap, from 0.
        tap: Map of shape 1xCxhxw and class token of shape 1xC.

    Returns:
        A map of shape hxw; None where the class token is not read.
    """
    if reassemble.readout_type == 'ignore' or level in reassemble.identity_levels:
        return None
    patches, cls_token = tap[0][0].float().flatten(1).T, tap[1][0].float()  # NxC, C
    if reassemble.readout_type == 'add':
        before, after = patches, patches + cls_token
    else:
        readout = reassemble.readout_projects[level]
        both = [torch.cat([patches, token.expand_as(patches)], dim=1) for token in (0 * cls_token, cls_token)]
        linear = readout[0]
        before, after = (F.gelu(F.linear(x, linear.weight.float(), linear.bias.float())) for x in both)
    change = (after - before).norm(dim=1) / before.norm(dim=1).clamp(min=1e-12)
    return change.view(tap[0].shape[-2:])


@contextmanager
def _inputs_of(modules: Sequence[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Note the input of modules during a forward pass."""
    seen: dict[int, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, inputs, i=i: seen.update({i: inputs[0]}))
        for i, module in enumerate(modules)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def attention_maps(model: nn.Module, inputs: Tensor, pixel: tuple[int, int] | None = None) -> list[TapMaps]:
    """Return the attention of the class token, or of a pixel's patch, in each layer that is tapped.

    Args:
        model: A segmentor whose backbone is a ViT and whose neck a DPT's, in evaluation mode.
        inputs: A preprocessed image of shape 1x3xHxW.
        pixel: (row, column) in it of the pixel whose patch asks; None for the class token.

    Raises:
        ValueError: If the backbone is no ViT, or the pixel is outside.
    """
    backbone: Any = model.backbone
    layers = getattr(backbone, 'layers', None)
    if layers is None or not hasattr(backbone, 'out_indices') or not hasattr(layers[0], 'attn'):
        raise ValueError(f'attention maps need a ViT as backbone, not {type(backbone).__name__}')
    taps = [index for index in backbone.out_indices if isinstance(index, int)]
    attentions = [layers[index].attn.attn for index in taps]
    with _inputs_of(attentions) as seen:
        features = backbone(inputs)
    features = features[len(features) - len(taps) :]  # a hybrid's stem comes before the layers
    first = features[-1] if isinstance(features[-1], Tensor) else features[-1][0]
    grid = (first.shape[-2], first.shape[-1])
    patch = backbone.patch_embed.patch_size * (HYBRID_STRIDE if hasattr(backbone, 'stem') else 1)
    query = 0 if pixel is None else _token_of(pixel, inputs.shape[-2:], patch, grid[1])
    reassemble = getattr(getattr(model, 'neck', None), 'reassemble_blocks', None)
    found = []
    for i, (index, module) in enumerate(zip(taps, attentions, strict=True)):
        row = attention_row(module, seen[i], query)
        maps = TapMaps(index, patch, row[:, 1:].unflatten(1, grid), row[:, 0])
        if reassemble is not None and not isinstance(features[i], Tensor):
            level = 4 - len(taps) + i
            maps.readout = readout_change(reassemble, level, features[i])
        found.append(maps)
    return found


def _token_of(pixel: tuple[int, int], size: Sequence[int], patch: int, columns: int) -> int:
    row, column = pixel
    if not (0 <= row < size[0] and 0 <= column < size[1]):
        raise ValueError(f'pixel {row} {column} (row, column) is outside the image of {size[0]}x{size[1]}')
    return 1 + row // patch * columns + column // patch


def heat(picture: np.ndarray, values: np.ndarray, patch: int, alpha: float = 0.6) -> np.ndarray:
    """Lay a map over a picture, from the least (dark) to the greatest value (bright).

    Args:
        picture: RGB, uint8, of shape HxWx3.
        values: Map of shape hxw.
        patch: Side in pixels of its cells; those at the bottom and right may reach over the picture's edge.
        alpha: Weight of the colours.
    """
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-12)
    cells = (255 * scaled).round().astype(np.uint8)
    large = cells.repeat(patch, axis=0).repeat(patch, axis=1)[: picture.shape[0], : picture.shape[1]]
    colours = cv2.applyColorMap(np.ascontiguousarray(large), cv2.COLORMAP_INFERNO)
    return cv2.addWeighted(picture, 1 - alpha, cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), alpha, 0)


def mark(picture: np.ndarray, pixel: tuple[int, int]) -> np.ndarray:
    """Return a copy with a ring around a pixel (row, column)."""
    marked = picture.copy()
    centre, radius = (pixel[1], pixel[0]), max(picture.shape[1] // 60, 4)
    for colour, width in (((0, 0, 0), 4), ((90, 255, 90), 2)):
        cv2.circle(marked, centre, radius, colour, width, cv2.LINE_AA)
    return marked


def draw_maps(
    picture: np.ndarray, maps: Sequence[TapMaps], pixel: tuple[int, int] | None = None
) -> list[tuple[str, np.ndarray]]:
    """Return titled panels: a row of attention (mean of the heads) and, where there is one, one of readout.

    Args:
        picture: What the network was given, RGB, uint8, padding included.
        maps: Of each tap.
        pixel: The pixel that asks, to be marked.
    """
    who = 'the class token' if pixel is None else 'the marked pixel'
    shown = picture if pixel is None else mark(picture, pixel)
    panels = [(f'attention of {who}', shown)]
    for one in maps:
        drawn = heat(picture, one.attention.mean(dim=0).cpu().numpy(), one.patch)
        to_itself = 100 * float(one.to_class_token.mean())
        title = f'layer {one.layer}: attention, {to_itself:.0f} % to [CLS]'
        panels.append((title, drawn if pixel is None else mark(drawn, pixel)))
    if any(one.readout is not None for one in maps):
        panels.append(('readout: change by the class token', picture))
        for one in maps:
            if one.readout is None:
                panels.append((f'layer {one.layer}: no readout', np.full_like(picture, 255)))
                continue
            least, most = float(one.readout.min()), float(one.readout.max())
            title = f'layer {one.layer}: readout, {100 * least:.0f} to {100 * most:.0f} %'
            panels.append((title, heat(picture, one.readout.cpu().numpy(), one.patch)))
    return panels
