"""Position embeddings for grids other than the native one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def differ(size: Sequence, other: Sequence) -> bool:
    """Whether two sizes differ; also where either is a symbol, as while a graph for any size is exported.

    Code of the form ``if differ(a, b): resize`` then puts the resizing, which between equal sizes changes
    nothing, into the graph, instead of fixing the graph to the sizes that it was traced with.
    """
    symbols = any(isinstance(length, torch.SymInt) for length in (*size, *other))
    return symbols or tuple(size) != tuple(other)


def resize_pos_embed(
    pos_embed: Tensor, native: tuple[int, int], grid: tuple[int, int], mode: str, num_extra_tokens: int
) -> Tensor:
    """Resize a position embedding to another patch grid; the class token's entry stays as it is.

    Args:
        pos_embed: Tensor of shape 1xNxC, ``num_extra_tokens`` entries first, then the grid row by row.
        native: Patch grid (height, width) that the embedding was trained on.
        grid: Patch grid (height, width) to resize to.
        mode: ``'bicubic'`` (MMSegmentation) or ``'bilinear'`` (original DPT), both with align_corners=False.
        num_extra_tokens: Leading entries that have no place in the grid.

    Returns:
        Tensor of shape 1xN'xC for the new grid.
    """
    if not differ(grid, native):
        return pos_embed
    extra, patches = pos_embed[:, :num_extra_tokens], pos_embed[:, num_extra_tokens:]
    patches = patches.reshape(1, *native, -1).permute(0, 3, 1, 2)  # 1xCxHxW
    patches = F.interpolate(patches, size=grid, mode=mode, align_corners=False)
    return torch.cat([extra, patches.flatten(2).transpose(1, 2)], dim=1)
