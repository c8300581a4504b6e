"""Random changes of brightness, contrast and colour."""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from dpt.registry import TRANSFORMS

HUES = 180
"""Range of OpenCV's 8-bit hue, 0..179."""

Changes = tuple[tuple[str, float], ...]
"""Names and amounts of changes, in the order in which they are applied."""

ROUNDING = 5e-5
"""Upper bound of the float32 rounding error for 8-bit values times small factors."""

VALUES = np.arange(256, dtype=np.float32)

_ROUNDED = np.array([[-ROUNDING], [ROUNDING]], np.float32)


def linear_table(factor: float = 1, offset: float = 0) -> np.ndarray:
    """Return ``factor * v + offset`` for each 8-bit value v, in float32, clipped to 0..255 and truncated."""
    return np.clip(VALUES * factor + offset, 0, 255).astype(np.uint8)


def change_linearly(pixels: np.ndarray, factor: float = 1, offset: float = 0) -> np.ndarray:
    """Apply :func:`linear_table` to uint8 pixels.

    Arithmetic is faster than a table, but may round differently if a result is close to an integer. The
    table is used if any of the 256 results is.
    """
    bounds = np.clip(VALUES * factor + offset + _ROUNDED, 0, 255).astype(np.uint8)
    if not np.array_equal(*bounds):
        return cv2.LUT(pixels, linear_table(factor, offset))
    # Subtracting 0.5 turns OpenCV's rounding into truncation.
    return cv2.addWeighted(pixels, factor, pixels, 0, offset - 0.5)


def _shift(image: np.ndarray, offset: float) -> np.ndarray:
    """Add an offset to an image, faster than :func:`change_linearly`."""
    whole = math.floor(offset)
    if not np.array_equal(np.clip(VALUES + whole, 0, 255), linear_table(offset=offset)):
        return change_linearly(image, offset=offset)
    return cv2.add(image, np.full(4, float(whole)))  # truncation results in an integer offset


def _convert_hsv(image: np.ndarray, channel: int, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Change one HSV channel of an image."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    planes = list(np.empty((3, *hsv.shape[:2]), np.uint8))
    cv2.split(hsv, planes)  # faster than extractChannel
    planes[channel] = change(planes[channel])
    return cv2.cvtColor(cv2.merge(planes, dst=hsv), cv2.COLOR_HSV2BGR, dst=hsv)


def _shift_hue(image: np.ndarray, shift: float) -> np.ndarray:
    return _convert_hsv(image, 0, lambda hue: turn_hue(hue, int(shift)))


def turn_hue(hue: np.ndarray, shift: int) -> np.ndarray:
    """Return ``(hue + shift) % 180`` for uint8 values below 180, faster than with a table."""
    rest = shift % HUES
    while rest:
        step = min(rest, 256 - HUES)  # avoids sums above 255
        turned = hue + np.uint8(step)
        hue = np.minimum(turned, turned - np.uint8(HUES), out=turned)  # values below 180 wrap around
        rest -= step
    return hue


def _scale_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    return _convert_hsv(image, 1, lambda saturation: change_linearly(saturation, factor))


CHANGES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    'brightness': _shift,
    'contrast': lambda image, factor: change_linearly(image, factor),
    'saturation': _scale_saturation,
    'hue': _shift_hue,
}


@TRANSFORMS.register_module()
class PhotoMetricDistortion(BaseTransform):
    """Change brightness, contrast, saturation and hue, each with probability 0.5.

    The order is brightness, contrast, saturation, hue; with probability 0.5, contrast comes last instead.
    Reads and writes ``img``, HxWx3, uint8, BGR, without modifying the input array. The result is
    bit-identical to float32 arithmetic with truncation.

    Args:
        brightness_delta: Largest change of brightness, in grey levels.
        contrast_range: Smallest and largest factor of the pixel values.
        saturation_range: Smallest and largest factor of the saturation.
        hue_delta: The hue changes by an integer from ``-hue_delta`` to ``hue_delta - 1``, in units of two
            degrees.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: Sequence[float] = (0.5, 1.5),
        *,
        saturation_range: Sequence[float] = (0.5, 1.5),
        hue_delta: int = 18,
    ) -> None:
        for name, bounds in (('contrast_range', contrast_range), ('saturation_range', saturation_range)):
            if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1]:
                raise ValueError(f'{name} must be (smallest, largest) factor, not {bounds!r}')
        if brightness_delta < 0 or hue_delta < 1:
            raise ValueError(
                f'brightness_delta must be at least 0 and hue_delta at least 1, not {brightness_delta} and '
                f'{hue_delta}'
            )
        self.brightness_delta = brightness_delta
        self.contrast_range = (contrast_range[0], contrast_range[1])
        self.saturation_range = (saturation_range[0], saturation_range[1])
        self.hue_delta = hue_delta

    def transform(self, results: dict) -> dict:
        image = results['img']
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f'{results.get("img_path", "the image")} is {image.dtype} of shape {image.shape}: '
                'PhotoMetricDistortion requires uint8 of shape HxWx3'
            )
        for name, amount in self._draw():
            image = CHANGES[name](image, amount)
        results['img'] = image
        return results

    @cache_randomness
    def _draw(self) -> Changes:
        """Draw the changes, their amounts and their order."""
        brightness = self._draw_uniform('brightness', (-self.brightness_delta, self.brightness_delta))
        contrast_first = np.random.randint(2)
        contrast = self._draw_uniform('contrast', self.contrast_range) if contrast_first else ()
        saturation = self._draw_uniform('saturation', self.saturation_range)
        hue = self._draw_hue()
        if not contrast_first:
            return (*brightness, *saturation, *hue, *self._draw_uniform('contrast', self.contrast_range))
        return (*brightness, *contrast, *saturation, *hue)

    @staticmethod
    def _draw_uniform(name: str, bounds: tuple[float, float]) -> Changes:
        return ((name, np.random.uniform(*bounds)),) if np.random.randint(2) else ()

    def _draw_hue(self) -> Changes:
        return (('hue', np.random.randint(-self.hue_delta, self.hue_delta)),) if np.random.randint(2) else ()

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(brightness_delta={self.brightness_delta}, '
            f'contrast_range={self.contrast_range}, saturation_range={self.saturation_range}, '
            f'hue_delta={self.hue_delta})'
        )


@TRANSFORMS.register_module()
class ColorAug(BaseTransform):
    """Change gamma, brightness and colours of a uint8 image, as recipes for depth do.

    Each value v of 0 to 255 becomes ``v ** gamma * brightness * colour``, clipped and rounded. The formula of
    the Monocular-Depth-Estimation-Toolbox and DINOv3, in which gamma changes the brightness strongly, because
    it is not applied to values from 0 to 1. Draws one number for ``prob``, then gamma, the brightness and a
    colour factor for each channel.

    Args:
        prob: Probability of changing the image.
        gamma_range: Smallest and largest exponent.
        brightness_range: Smallest and largest factor of all channels.
        color_range: Smallest and largest factor of one channel.
    """

    def __init__(
        self,
        prob: float,
        gamma_range: Sequence[float] = (0.9, 1.1),
        brightness_range: Sequence[float] = (0.9, 1.1),
        color_range: Sequence[float] = (0.9, 1.1),
    ) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob={prob} must be from 0 to 1')
        ranges = dict(gamma_range=gamma_range, brightness_range=brightness_range, color_range=color_range)
        for name, bounds in ranges.items():
            if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1]:
                raise ValueError(f'{name} must be (smallest, largest), both above 0, not {bounds!r}')
        self.prob = prob
        self.gamma_range = (gamma_range[0], gamma_range[1])
        self.brightness_range = (brightness_range[0], brightness_range[1])
        self.color_range = (color_range[0], color_range[1])

    @cache_randomness
    def _draw(self, channels: int) -> tuple[float, np.ndarray] | None:
        """Return gamma and the factor of each channel, or None to keep the image."""
        if np.random.rand() >= self.prob:
            return None
        gamma = np.random.uniform(*self.gamma_range)
        brightness = np.random.uniform(*self.brightness_range)
        return gamma, brightness * np.random.uniform(*self.color_range, size=channels)

    def transform(self, results: dict) -> dict:
        image = results['img']
        if image.dtype != np.uint8 or image.ndim != 3:
            raise ValueError(
                f'{results.get("img_path", "the image")} is {image.dtype} of shape {image.shape}: ColorAug '
                'requires uint8 of shape HxWxC'
            )
        drawn = self._draw(image.shape[2])
        if drawn is not None:
            gamma, factors = drawn
            table = np.rint(np.clip(VALUES[:, None] ** gamma * factors, 0, 255)).astype(np.uint8)
            results['img'] = cv2.LUT(np.ascontiguousarray(image), table[None])
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(prob={self.prob}, gamma_range={self.gamma_range}, '
            f'brightness_range={self.brightness_range}, color_range={self.color_range})'
        )
