"""Change the intensities of an image, the same way for each image."""

from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform

from dpt.datasets.bad_sample import BadSampleError
from dpt.registry import TRANSFORMS


def _require_uint8(results: dict, name: str) -> np.ndarray:
    image = results['img']
    if image.dtype != np.uint8:
        raise ValueError(
            f'{results.get("img_path", "the image")} is {image.dtype}, but {name} requires uint8: put it '
            'before the transforms that convert the image'
        )
    return image


@TRANSFORMS.register_module()
class CLAHE(BaseTransform):
    """Equalise each channel of a uint8 image with limited contrast (Zuiderveld 1994).

    Args:
        clip_limit: Limit of the contrast.
        tile_grid_size: Number of tiles, (across, down).
    """

    def __init__(self, clip_limit: float = 40.0, tile_grid_size: Sequence[int] = (8, 8)) -> None:
        if len(tile_grid_size) != 2:
            raise ValueError(f'tile_grid_size={tile_grid_size!r} must be two numbers')
        self.clip_limit = clip_limit
        self.tile_grid_size = tuple(tile_grid_size)

    def transform(self, results: dict) -> dict:
        image = _require_uint8(results, 'CLAHE')
        channels = np.atleast_3d(image).transpose(2, 0, 1)
        done = [mmcv.clahe(one, self.clip_limit, self.tile_grid_size) for one in channels]
        results['img'] = np.stack(done, axis=-1).reshape(image.shape)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(clip_limit={self.clip_limit}, tile_grid_size={self.tile_grid_size})'


@TRANSFORMS.register_module()
class AdjustGamma(BaseTransform):
    """Apply ``255 * (value / 255) ** (1 / gamma)`` to a uint8 image; results are truncated.

    Args:
        gamma: Above 1 brightens the image, below 1 darkens it.
    """

    def __init__(self, gamma: float = 1.0) -> None:
        if gamma <= 0:
            raise ValueError(f'gamma={gamma} must be positive')
        self.gamma = gamma
        # The arithmetic of MMSegmentation, because truncation shows the last bit.
        self.table = np.array([(i / 255.0) ** (1.0 / gamma) * 255 for i in np.arange(256)]).astype(np.uint8)

    def transform(self, results: dict) -> dict:
        results['img'] = mmcv.lut_transform(_require_uint8(results, 'AdjustGamma'), self.table)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(gamma={self.gamma})'


@TRANSFORMS.register_module()
class RGB2Gray(BaseTransform):
    """Replace the channels by copies of their weighted sum, as float32.

    Writes ``img`` and ``img_shape``.

    Args:
        out_channels: Number of copies; None keeps the number of channels.
        weights: Weight of each channel in the order of the image. ``LoadImageFromFile`` returns BGR, for
            which the default, that of MMSegmentation, exchanges red and blue: use (0.114, 0.587, 0.299).
    """

    def __init__(
        self, out_channels: int | None = None, weights: Sequence[float] = (0.299, 0.587, 0.114)
    ) -> None:
        if out_channels is not None and out_channels < 1:
            raise ValueError(f'out_channels={out_channels} must be at least 1')
        self.out_channels = out_channels
        self.weights = tuple(weights)

    def transform(self, results: dict) -> dict:
        image = results['img']
        if image.ndim != 3 or image.shape[2] != len(self.weights):
            raise ValueError(
                f'{results.get("img_path", "the image")} has shape {image.shape}, but RGB2Gray has '
                f'{len(self.weights)} weights'
            )
        grey = (image * np.array(self.weights)).sum(axis=2, keepdims=True).astype(np.float32)
        results['img'] = grey.repeat(self.out_channels or image.shape[2], axis=2)
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(out_channels={self.out_channels}, weights={self.weights})'


@TRANSFORMS.register_module()
class Rerange(BaseTransform):
    """Shift and scale the values of each image so that they fill a range, as float32.

    Args:
        min_value: Smallest value of the result.
        max_value: Largest value of the result.

    Raises:
        BadSampleError: If all values of the image are equal.
    """

    def __init__(self, min_value: float = 0, max_value: float = 255) -> None:
        if min_value >= max_value:
            raise ValueError(f'min_value={min_value} must be below max_value={max_value}')
        self.min_value = min_value
        self.max_value = max_value

    def transform(self, results: dict) -> dict:
        image = results['img']
        lowest, highest = image.min(), image.max()
        if lowest == highest:
            raise BadSampleError(
                f'image {results.get("img_path")} is {lowest} everywhere: Rerange cannot spread it',
                'image of one value',
            )
        share = (image - lowest) / (highest - lowest)
        results['img'] = (share * (self.max_value - self.min_value) + self.min_value).astype(np.float32)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_value={self.min_value}, max_value={self.max_value})'
