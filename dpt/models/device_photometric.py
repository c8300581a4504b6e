"""Changes of brightness, contrast, saturation and hue on the device, equal to those of the pipelines."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

HUES = 180
"""OpenCV's 8-bit hue counts 0..179."""

_SHIFT = 12  # OpenCV's fixed point
# Which of (V, p, q, t) blue, green and red are, by sector of the hue.
_SECTORS = ((1, 3, 0), (1, 0, 2), (3, 0, 1), (0, 2, 1), (0, 1, 3), (2, 1, 0))


def bgr_to_hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert as ``cv2.COLOR_BGR2HSV`` does 8-bit images, to the last bit.

    Args:
        image: uint8, of shape 3xHxW.

    Returns:
        Hue (0..179), saturation and value (0..255), int32 of shape HxW.
    """
    blue, green, red = image.int()
    value = torch.maximum(torch.maximum(blue, green), red)
    spread = value - torch.minimum(torch.minimum(blue, green), red)
    saturation = (spread * _reciprocals(255 << _SHIFT, image.device)[value] + (1 << _SHIFT - 1)) >> _SHIFT
    hue = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = (hue * _reciprocals((HUES << _SHIFT) / 6, image.device)[spread] + (1 << _SHIFT - 1)) >> _SHIFT
    return torch.where(hue < 0, hue + HUES, hue), saturation, value


@cache  # a few kilobytes
def _reciprocals(numerator: float, device: torch.device) -> Tensor:
    """``numerator / i`` for i from 0 to 255, rounded; 0 for i = 0."""
    numbers = torch.arange(256, dtype=torch.float64, device=device)
    return torch.where(numbers > 0, numerator / numbers.clamp(min=1), 0).round().int()


@cache  # else the host would wait for the GPU to take the table, each time
def _sectors(device: torch.device) -> Tensor:
    return torch.tensor(_SECTORS, device=device).T


def hsv_to_bgr(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Convert as ``cv2.COLOR_HSV2BGR`` does 8-bit images in its vector code, which truncates.

    Its scalar code, which makes the last few columns of some widths, rounds: a grey level more.

    Returns:
        uint8, of shape 3xHxW.
    """
    sixth = hue.float() * (6 / HUES)
    sector = sixth.floor()
    fraction = (sixth - sector).double()
    s, v = (saturation.float() * (1 / 255)).double(), value.float() * (1 / 255)
    # Products in double precision, rounded after the subtraction, as fused multiply-add does.
    rising = (1 - s * (1 - fraction).float().double()).float()
    corners = torch.stack([v, v * (1 - s).float(), v * (1 - s * fraction).float(), v * rising])
    choice = _sectors(hue.device)[:, sector.long() % 6]
    return (corners.gather(0, choice) * 255).byte()


def scale(pixels: Tensor, factor: float = 1, offset: float = 0) -> Tensor:
    """``factor * v + offset`` in single precision, clipped to 0..255, truncated to whole numbers."""
    return (pixels.float() * factor + offset).clamp(0, 255).to(pixels.dtype)


def distort(image: Tensor, changes: Sequence[tuple[str, float]]) -> Tensor:
    """Apply what ``PhotoMetricDistortion(on_device=True)`` drew for an image.

    Args:
        image: uint8, BGR, of shape 3xHxW.
        changes: Pairs of 'brightness' (grey levels added), 'contrast', 'saturation' (factors) or 'hue' (units
            of two degrees) and their amount, in the order in which they act.

    Returns:
        uint8, of shape 3xHxW: what the transform makes on the CPU, but for the columns of :func:`hsv_to_bgr`.
    """
    for name, amount in changes:
        if name == 'brightness':
            image = scale(image, offset=amount)
        elif name == 'contrast':
            image = scale(image, factor=amount)
        else:
            hue, saturation, value = bgr_to_hsv(image)
            if name == 'saturation':
                saturation = scale(saturation, factor=amount)
            elif name == 'hue':
                hue = (hue + int(amount)) % HUES
            else:
                raise ValueError(f'photometric change {name!r} is unknown')
            image = hsv_to_bgr(hue, saturation, value)
    return image
