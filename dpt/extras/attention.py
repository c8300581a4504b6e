"""Attention maps of a ViT, and the effect of the class token in the readout of the neck.

The fused attention kernel of the backbone returns no weights. They are computed here from the inputs of the
tapped layers, which hooks record in a normal forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HYBRID_STRIDE = 16
"""Stride of the feature map that the stem of a hybrid passes to the transformer."""


@dataclass
class TapMaps:
    """Maps of one tapped layer, on the hxw grid of patches.

    Args:
        layer: Index of the layer.
        patch: Side of a patch in pixels.
        attention: Attention of each head from the query to each patch, of shape (heads)xhxw.
        to_class_token: Attention of each head from the query to the class token, of shape (heads).
        readout: Relative change of each patch by the class token, see :func:`readout_change`; None if the
            neck ignores the class token.
    """

    layer: int
    patch: int
    attention: Tensor
    to_class_token: Tensor
    readout: Tensor | None = None


def attention_row(module: Any, x: Tensor, query: int) -> Tensor:
    """Return the attention weights from one token to all tokens.

    Args:
        module: ``MultiheadAttention`` of the backbone.
        x: Its input, of shape 1xNxC.
        query: Index of the token, 0 for the class token.

    Returns:
        float32 weights of shape (heads)xN, which sum to one in each head.
    """
    channels, heads = x.shape[-1], module.num_heads
    weights, x = module.in_proj_weight.float(), x[0].float()
    bias = weights.new_zeros(len(weights)) if module.in_proj_bias is None else module.in_proj_bias.float()
    q = F.linear(x[query], weights[:channels], bias[:channels])
    k = F.linear(x, weights[channels : 2 * channels], bias[channels : 2 * channels])
    q, k = q.view(heads, 1, -1), k.view(len(x), heads, -1).transpose(0, 1)  # headsx1xd, headsxNxd
    return (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1)[:, 0]


def readout_change(reassemble: Any, level: int, tap: tuple[Tensor, Tensor]) -> Tensor | None:
    """Return the relative change of each patch by the class token, ``|y - y0| / |y0|``.

    ``y`` is the readout, and ``y0`` the readout with a class token of zeros.

    Args:
        reassemble: ``ReassembleBlocks`` of the neck.
        level: Index of the tap.
        tap: Map of shape 1xCxhxw and class token of shape 1xC.

    Returns:
        A map of shape hxw; None if the neck ignores the class token.
    """
    if reassemble.readout_type == 'ignore' or level in reassemble.identity_levels:
        return None
    patches, cls_token = tap[0][0].float().flatten(1).T, tap[1][0].float()  # NxC, C
    if reassemble.readout_type == 'add':
        before, after = patches, patches + cls_token
    else:
        linear = reassemble.readout_projects[level][0]
        both = [torch.cat([patches, token.expand_as(patches)], dim=1) for token in (0 * cls_token, cls_token)]
        before, after = (F.gelu(F.linear(x, linear.weight.float(), linear.bias.float())) for x in both)
    change = (after - before).norm(dim=1) / before.norm(dim=1).clamp(min=1e-12)
    return change.view(tap[0].shape[-2:])


@torch.no_grad()
def attention_maps(model: nn.Module, inputs: Tensor, pixel: tuple[int, int] | None = None) -> list[TapMaps]:
    """Return the attention of the class token, or of a pixel's patch, in each tapped layer.

    Args:
        model: A segmentor with a ViT backbone, in evaluation mode.
        inputs: A preprocessed image of shape 1x3xHxW.
        pixel: (row, column) of the pixel whose patch is the query; None for the class token.

    Raises:
        ValueError: If the backbone is not a ViT, or the pixel is outside the image.
    """
    backbone: Any = model.backbone
    layers = getattr(backbone, 'layers', None)
    if layers is None or not hasattr(backbone, 'out_indices') or not hasattr(layers[0], 'attn'):
        raise ValueError(f'attention maps require a ViT backbone, not {type(backbone).__name__}')
    height, width = inputs.shape[-2:]
    if pixel is not None and not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
        raise ValueError(
            f'pixel {pixel[0]} {pixel[1]} (row, column) is outside the image of {height}x{width}'
        )
    taps = [index for index in backbone.out_indices if isinstance(index, int)]
    modules = [layers[index].attn.attn for index in taps]
    seen: dict[int, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, inputs, i=i: seen.update({i: inputs[0]}))
        for i, module in enumerate(modules)
    ]
    try:
        features = backbone(inputs)
    finally:
        for handle in handles:
            handle.remove()
    features = features[len(features) - len(taps) :]  # a hybrid returns its stem features first
    first = features[-1] if isinstance(features[-1], Tensor) else features[-1][0]
    grid = (first.shape[-2], first.shape[-1])
    patch = backbone.patch_embed.patch_size * (HYBRID_STRIDE if hasattr(backbone, 'stem') else 1)
    query = 0 if pixel is None else 1 + pixel[0] // patch * grid[1] + pixel[1] // patch
    reassemble = getattr(getattr(model, 'neck', None), 'reassemble_blocks', None)
    found = []
    for i, (index, module) in enumerate(zip(taps, modules, strict=True)):
        row = attention_row(module, seen[i], query)
        maps = TapMaps(index, patch, row[:, 1:].unflatten(1, grid), row[:, 0])
        if reassemble is not None and not isinstance(features[i], Tensor):
            maps.readout = readout_change(reassemble, 4 - len(taps) + i, features[i])
        found.append(maps)
    return found


def heat(picture: np.ndarray, values: np.ndarray, patch: int, alpha: float = 0.6) -> np.ndarray:
    """Blend a map over a picture, with colours from dark (minimum) to bright (maximum).

    Args:
        picture: RGB, uint8, of shape HxWx3.
        values: Map of shape hxw.
        patch: Side of a cell of the map in pixels; the last cells may extend beyond the picture.
        alpha: Weight of the colours.
    """
    low, high = float(values.min()), float(values.max())
    cells = (255 * (values - low) / max(high - low, 1e-12)).round().astype(np.uint8)
    large = cells.repeat(patch, axis=0).repeat(patch, axis=1)[: picture.shape[0], : picture.shape[1]]
    colours = cv2.applyColorMap(np.ascontiguousarray(large), cv2.COLORMAP_INFERNO)
    return cv2.addWeighted(picture, 1 - alpha, cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), alpha, 0)


def draw_maps(
    picture: np.ndarray, maps: Sequence[TapMaps], pixel: tuple[int, int] | None = None
) -> list[tuple[str, np.ndarray]]:
    """Return titled panels: a row of attention (mean over heads) and, if available, a row of readout.

    Args:
        picture: Input of the network, RGB, uint8, with padding.
        maps: Maps of each tapped layer.
        pixel: Pixel of the query, which is marked with a ring.
    """

    def marked(panel: np.ndarray) -> np.ndarray:
        panel = panel.copy()
        if pixel is not None:
            centre, radius = (pixel[1], pixel[0]), max(panel.shape[1] // 60, 4)
            for colour, width in (((0, 0, 0), 4), ((90, 255, 90), 2)):
                cv2.circle(panel, centre, radius, colour, width, cv2.LINE_AA)
        return panel

    who = 'the class token' if pixel is None else 'the marked pixel'
    panels = [(f'attention of {who}', marked(picture))]
    for one in maps:
        drawn = heat(picture, one.attention.mean(dim=0).cpu().numpy(), one.patch)
        share = 100 * float(one.to_class_token.mean())
        panels.append((f'layer {one.layer}: attention, {share:.0f} % to [CLS]', marked(drawn)))
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
