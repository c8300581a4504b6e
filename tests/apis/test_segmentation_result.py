"""Areas and overlays of one result."""

import cv2
import numpy as np
import pytest

from dpt.apis import Segmentation

PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@pytest.fixture
def result() -> Segmentation:
    labels = np.zeros((40, 50), np.uint8)
    labels[:10] = 2
    image = np.full((40, 50, 3), (10, 20, 30), np.uint8)  # BGR
    return Segmentation('a.png', image, labels, ('a', 'b', 'c'), PALETTE)


def test_areas_are_in_per_cent_and_the_largest_comes_first(result: Segmentation) -> None:
    assert result.areas() == {'a': 75.0, 'c': 25.0}
    assert list(result.areas()) == ['a', 'c']


def test_an_overlay_blends_colours_over_the_image_in_rgb(result: Segmentation) -> None:
    assert np.array_equal(result.overlay(0.0), cv2.cvtColor(result.image, cv2.COLOR_BGR2RGB))
    assert np.array_equal(result.overlay(1.0), PALETTE[result.labels])
    with pytest.raises(ValueError, match='opacity'):
        result.overlay(1.5)


def test_a_legend_stands_beneath_and_its_height_follows_its_classes(result: Segmentation) -> None:
    plain, fixed = result.overlay(legend=True), result.overlay(legend=range(3))
    assert plain.shape[0] > 40
    colours = {tuple(colour) for colour in fixed.reshape(-1, 3).tolist()}
    assert (0, 255, 0) in colours  # the class that is absent, in the legend of all
    assert (0, 255, 0) not in {tuple(colour) for colour in plain.reshape(-1, 3).tolist()}
