"""PhotoMetricDistortion against floating-point arithmetic on the pixels, draw for draw."""

import cv2
import numpy as np
import pytest

from dpt.datasets import PhotoMetricDistortion
from dpt.datasets.transforms.photometric import CHANGES, change_linearly, linear_table


def random_image(seed, shape=(23, 37, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def scale(pixels, factor=1.0, offset=0.0):
    values = np.float32(factor) * pixels.astype(np.float32) + np.float32(offset)
    return np.minimum(np.maximum(values, 0), 255).astype(np.uint8)


def distort_oracle(image, state, brightness=32, contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=18):
    """The published order of steps, each on whole images."""
    if state.randint(2):
        image = scale(image, offset=state.uniform(-brightness, brightness))
    first = state.randint(2)
    if first and state.randint(2):
        image = scale(image, factor=state.uniform(*contrast))
    if state.randint(2):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = scale(hsv[..., 1], factor=state.uniform(*saturation))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if state.randint(2):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + state.randint(-hue, hue)) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if not first and state.randint(2):
        image = scale(image, factor=state.uniform(*contrast))
    return image


@pytest.mark.parametrize(
    'arguments',
    [
        {},
        {
            'brightness_delta': 100,
            'contrast_range': (0.1, 3),
            'saturation_range': [0.0, 2.0],
            'hue_delta': 90,
        },
    ],
)
def test_images_and_draws_equal_oracle(arguments):
    distort = PhotoMetricDistortion(**arguments)
    names = {key.removesuffix('_delta').removesuffix('_range'): v for key, v in arguments.items()}
    for seed in range(60):
        image = random_image(seed)
        state = np.random.RandomState(seed)
        expected = distort_oracle(image, state, **names)
        np.random.seed(seed)
        np.testing.assert_array_equal(distort({'img': image})['img'], expected)
        assert np.random.rand() == state.rand()


def test_input_image_is_not_changed():
    image = np.flip(random_image(0), axis=1)
    before = image.copy()
    distort = PhotoMetricDistortion()
    for seed in range(10):
        np.random.seed(seed)
        expected = distort_oracle(before, np.random.RandomState(seed))
        np.testing.assert_array_equal(distort({'img': image})['img'], expected)
        np.testing.assert_array_equal(image, before)


def test_linear_changes_equal_table_near_whole_numbers():
    generator = np.random.default_rng(0)
    pixels = np.resize(np.arange(256, dtype=np.uint8), (11, 37, 3))
    cases = [(factor, 0.0) for factor in (*generator.uniform(0.3, 3, 300), 0, 1, 1.5, 1 + 1e-7, 1 - 1e-7)]
    cases += [(1.0, offset) for offset in (*generator.uniform(-99, 99, 300), -3, 2.9999999, -7.0000001)]
    for factor, offset in cases:
        expected = linear_table(factor, offset)[pixels]
        np.testing.assert_array_equal(change_linearly(pixels, factor, offset), expected)


def test_brightness_equals_table():
    pixels = np.resize(np.arange(256, dtype=np.uint8), (4, 256, 3))
    offsets = [*np.random.default_rng(0).uniform(-300, 300, 300), 0.0, -3.0, 2.9999999, -7.0000001, -1e-9]
    for offset in offsets:
        expected = linear_table(offset=offset)[pixels]
        np.testing.assert_array_equal(CHANGES['brightness'](pixels, offset), expected)


@pytest.mark.parametrize('image', [random_image(0).astype(np.float32), random_image(0)[..., 0]])
def test_other_images_raise(image):
    with pytest.raises(ValueError, match=r'i\.jpg is .* requires uint8 of shape HxWx3'):
        PhotoMetricDistortion()({'img': image, 'img_path': 'i.jpg'})


@pytest.mark.parametrize(
    'arguments',
    [
        {'contrast_range': (1.5, 0.5)},
        {'saturation_range': (1.0,)},
        {'saturation_range': (-1, 1)},
        {'hue_delta': 0},
        {'brightness_delta': -1},
    ],
)
def test_wrong_arguments_raise(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        PhotoMetricDistortion(**arguments)
