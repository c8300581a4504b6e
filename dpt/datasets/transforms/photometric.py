"""Random changes of brightness, contrast and colour."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from dpt.registry import TRANSFORMS

HUES = 180
"""OpenCV's 8-bit hue counts 0..179."""


def linear_table(factor: float = 1, offset: float = 0) -> np.ndarray:
    """``factor * v + offset`` for each 8-bit value v, in single precision, clipped to 0..255, truncated."""
    values = np.arange(256, dtype=np.float32) * factor + offset
    return np.clip(values, 0, 255).astype(np.uint8)


def _change_hsv(image: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    tables = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (1, 1, 3))
    tables[0, :, channel] = table
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, tables), cv2.COLOR_HSV2BGR)


@TRANSFORMS.register_module()
class PhotoMetricDistortion(BaseTransform):
    """Change brightness, contrast, saturation and hue, each with probability one half.

    The order is brightness, contrast, saturation, hue or, with probability one half, contrast last. Reads
    and writes ``img``, HxWx3, uint8, BGR; the array handed in is left as it was. Every change is a table of
    256 values, so an image costs a look-up instead of floating-point arithmetic on its pixels.

    Args:
        brightness_delta: Largest change of brightness, in grey levels.
        contrast_range: Smallest and largest factor of the pixel values.
        saturation_range: Smallest and largest factor of the saturation.
        hue_delta: The change of hue is a whole number from ``-hue_delta`` to ``hue_delta - 1``, in units
            of two degrees.
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
                raise ValueError(f'{name} is {bounds!r}: (smallest, largest) factor was expected')
        if brightness_delta < 0 or hue_delta < 1:
            raise ValueError(
                f'brightness_delta={brightness_delta} and hue_delta={hue_delta} were given: '
                'at least 0 and at least 1 were expected'
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
                'PhotoMetricDistortion works on uint8 HxWx3'
            )
        image = self._brightness(image)
        contrast_first = np.random.randint(2)
        if contrast_first:
            image = self._contrast(image)
        image = self._hue(self._saturation(image))
        if not contrast_first:
            image = self._contrast(image)
        results['img'] = image
        return results

    def _brightness(self, image: np.ndarray) -> np.ndarray:
        if not np.random.randint(2):
            return image
        offset = np.random.uniform(-self.brightness_delta, self.brightness_delta)
        return cv2.LUT(image, linear_table(offset=offset))

    def _contrast(self, image: np.ndarray) -> np.ndarray:
        if not np.random.randint(2):
            return image
        return cv2.LUT(image, linear_table(factor=np.random.uniform(*self.contrast_range)))

    def _saturation(self, image: np.ndarray) -> np.ndarray:
        if not np.random.randint(2):
            return image
        return _change_hsv(image, 1, linear_table(factor=np.random.uniform(*self.saturation_range)))

    def _hue(self, image: np.ndarray) -> np.ndarray:
        if not np.random.randint(2):
            return image
        shift = np.random.randint(-self.hue_delta, self.hue_delta)
        return _change_hsv(image, 0, ((np.arange(256) + shift) % HUES).astype(np.uint8))

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(brightness_delta={self.brightness_delta}, '
            f'contrast_range={self.contrast_range}, saturation_range={self.saturation_range}, '
            f'hue_delta={self.hue_delta})'
        )
