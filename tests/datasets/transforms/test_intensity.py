"""Transforms of intensities against OpenCV and formulas."""

import cv2
import numpy as np
import pytest

from dpt.datasets.bad_sample import BadSampleError
from dpt.registry import TRANSFORMS


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(3, 250, (20, 30, 3), dtype=np.uint8)


def apply(image: np.ndarray, **config) -> np.ndarray:
    before = image.copy()
    found = TRANSFORMS.build(config)(dict(img=image, img_path='a.jpg'))['img']
    np.testing.assert_array_equal(image, before)
    return found


def test_clahe_equalises_each_channel(image) -> None:
    equaliser = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(4, 2))
    expected = cv2.merge([equaliser.apply(channel) for channel in cv2.split(image)])
    np.testing.assert_array_equal(apply(image, type='CLAHE', clip_limit=2.0, tile_grid_size=[4, 2]), expected)
    grey = apply(image[..., 0], type='CLAHE', clip_limit=2.0, tile_grid_size=(4, 2))
    np.testing.assert_array_equal(grey, expected[..., 0])


@pytest.mark.parametrize('gamma', [0.5, 2.0])
def test_gamma_is_inverse_exponent(gamma, image) -> None:
    expected = 255 * (image / 255) ** (1 / gamma)
    found = apply(image, type='AdjustGamma', gamma=gamma)
    assert found.dtype == np.uint8
    assert (abs(found - np.floor(expected)) <= 1).all()
    assert (found == np.floor(expected)).mean() > 0.99


@pytest.mark.parametrize('channels', [None, 1])
def test_grey_is_weighted_sum(channels, image) -> None:
    grey = image @ np.array([0.114, 0.587, 0.299])
    found = apply(image, type='RGB2Gray', out_channels=channels, weights=[0.114, 0.587, 0.299])
    assert found.shape == (20, 30, channels or 3)
    np.testing.assert_allclose(found, np.repeat(grey[..., None], channels or 3, axis=2), rtol=1e-6)
    assert abs(found[..., 0] - cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)).max() < 1


def test_rerange_fills_the_range(image) -> None:
    found = apply(image, type='Rerange', min_value=-1, max_value=3)
    assert (found.min(), found.max(), found.dtype) == (-1, 3, np.float32)
    np.testing.assert_allclose(np.corrcoef(found.ravel(), image.ravel())[0, 1], 1)
    with pytest.raises(BadSampleError, match=r'image a\.jpg is 7 everywhere'):
        apply(np.full((4, 4, 3), 7, np.uint8), type='Rerange')


@pytest.mark.parametrize('name', ['CLAHE', 'AdjustGamma'])
def test_converted_image_is_refused(name, image) -> None:
    with pytest.raises(ValueError, match=f'float32, but {name} requires uint8'):
        apply(image.astype(np.float32), type=name)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='AdjustGamma', gamma=0), 'gamma=0 must be positive'),
        (dict(type='RGB2Gray', out_channels=0), 'out_channels=0'),
        (dict(type='Rerange', min_value=5, max_value=5), 'must be below max_value=5'),
        (dict(type='CLAHE', tile_grid_size=(8,)), 'tile_grid_size'),
    ],
)
def test_wrong_argument_raises(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(config)
