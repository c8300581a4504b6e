"""Where a pixel's evidence ends up, by padding: the reference's shift of odd sides, and its cure."""

import torch
from torch import nn

from dpt.models.inference import resize
from dpt.registry import MODELS

PATCH = 16


def transparent_neck() -> nn.Module:
    """A DPTNeck whose convolutions hand on their middle pixel, and whose residual units add nothing."""
    neck = MODELS.build(
        dict(type='DPTNeck', in_channels=1, channels=1, post_process_channels=(1,) * 4, readout_type='ignore')
    ).eval()
    for name, parameter in neck.named_parameters():
        nn.init.zeros_(parameter)
        if parameter.ndim == 4 and 'res_conv_unit' not in name:
            parameter.data[0, 0, parameter.shape[-2] // 2, parameter.shape[-1] // 2] = 1
    return neck


def shift_near_the_border(padded: int) -> float:
    """By how many pixels the coarsest level is off, 20 pixels from the right border of the padded input."""
    neck = transparent_neck()
    grid = padded // PATCH
    centres = ((torch.arange(grid, dtype=torch.float32) + 0.5) * PATCH).expand(1, 1, grid, grid)
    zeros = torch.zeros_like(centres)
    with torch.no_grad():
        logits = neck((zeros, zeros, zeros, centres))[0]
    column = padded - 20
    return (resize(logits, (padded, padded))[0, 0, 0, column] - (column + 0.5)).item()


def test_odd_grid_shifts_coarse_level_and_padding_prevents_it() -> None:
    trained = shift_near_the_border(512)
    assert abs(shift_near_the_border(704) - trained) < 1
    assert abs(shift_near_the_border(688) - trained) > 10  # 43 patches, what 683 columns get without padding
