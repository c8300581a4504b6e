"""Label maps over images, as arrays."""

import cv2
import numpy as np
import pytest

from dpt.palette import default_palette
from dpt.visualization import (
    compose,
    draw_errors,
    draw_legend,
    draw_overlay,
    present_classes,
)
from dpt.visualization.overlay import ERROR_COLOUR, MIN_PANEL_WIDTH, WHITE

PALETTE = np.array([[200, 10, 30], [0, 120, 250], [90, 255, 60]], np.uint8)


def image(size=(12, 16), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def has_colour(picture, colour):
    return bool((picture == np.asarray(colour)).all(axis=-1).any())


@pytest.mark.parametrize('alpha', [0, 0.3, 0.6, 1])
@pytest.mark.parametrize('dtype', [np.uint8, np.int64])
def test_overlay_blends_image_and_colour(alpha, dtype):
    outside = [255, 3] if dtype is np.uint8 else [255, 3, -1]  # unlabelled: black
    picture, labels = (
        image(),
        np.random.default_rng(1).choice([0, 1, 2, *outside], size=(12, 16)).astype(dtype),
    )
    before = labels.copy()
    overlay = draw_overlay(picture, labels, PALETTE, alpha)
    for row, column in np.ndindex(12, 16):
        label = labels[row, column]
        colour = PALETTE[label].astype(float) if label in (0, 1, 2) else np.zeros(3)
        expected = (1 - alpha) * image()[row, column] + alpha * colour
        assert np.abs(overlay[row, column] - expected).max() <= 0.5 + 1e-3
    assert overlay.dtype == np.uint8
    np.testing.assert_array_equal(picture, image())
    np.testing.assert_array_equal(labels, before)


def test_errors_count_labelled_pixels_only():
    truth = np.zeros((10, 10), np.int64)
    truth[:5] = 255
    prediction = truth.copy()
    prediction[:5] = 1  # on unlabelled pixels: no errors
    prediction[5, :5] = 2  # 5 errors of 50
    picture, share = draw_errors(image((10, 10)), prediction, truth, 3)
    assert share == 0.1
    for value in (255, 3, -1):  # no classes
        assert np.isnan(draw_errors(image((10, 10)), prediction, np.full((10, 10), value), 3)[1])
    wrong = (picture == np.array(ERROR_COLOUR)).all(axis=-1)
    expected = np.zeros((10, 10), bool)
    expected[5, :5] = True
    np.testing.assert_array_equal(wrong, expected)
    right = picture[6:]
    assert (right == right[..., :1]).all()  # grey
    assert picture[:5].max() < right.min() + 20


def test_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r'\(6, 8\).*\(12, 16\).*load annotations after'):
        draw_overlay(image(), np.zeros((6, 8), int), PALETTE, 0.5)
    with pytest.raises(ValueError, match='float64'):
        draw_overlay(image().astype(float), np.zeros((12, 16), int), PALETTE, 0.5)


def test_present_classes_are_those_of_any_map():
    first, second = np.array([[4, 255]]), np.array([[1, 7, -1]])
    assert present_classes(5, first, second) == [1, 4]
    assert present_classes(5) == []


def test_legend_shows_every_colour_and_wraps():
    colours, names = default_palette(40), [f'class number {k}' for k in range(40)]
    legend, wide = draw_legend(names, colours, 480, 14), draw_legend(names, colours, 1960, 14)
    assert legend.shape[1] == 480
    assert all(has_colour(legend, colour) for colour in colours)
    assert wide.shape[0] < legend.shape[0] / 3
    assert draw_legend([], np.zeros((0, 3)), 480, 14).shape == (0, 480, 3)
    cut = draw_legend(['x' * 200, 'y'], PALETTE[:2], 200, 14)  # a name wider than the picture
    assert cut.shape[1] == 200
    assert (cut[:, -4:] == WHITE).all()
    assert has_colour(cut, PALETTE[1])


@pytest.mark.parametrize('size', [(360, 480), (96, 128), (31, 47), (600, 800)])
def test_panels_stand_side_by_side_at_a_whole_factor(size):
    panels = [('image', image(size)), ('prediction', image(size, 1))]
    sheet = compose(panels, ['road'], PALETTE[:1])
    factor = -(-MIN_PANEL_WIDTH // size[1])
    assert sheet.shape[1] >= 2 * factor * size[1]
    assert sheet.shape[0] > factor * size[0]
    for _, picture in panels:
        enlarged = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        score = cv2.matchTemplate(sheet, enlarged, cv2.TM_SQDIFF)
        left, top = cv2.minMaxLoc(score)[2]
        found = sheet[top : top + enlarged.shape[0], left : left + enlarged.shape[1]]
        np.testing.assert_array_equal(found, enlarged)


def test_titles_are_written():
    blank = np.full((96, 128, 3), 255, np.uint8)
    untitled, titled = compose([('', blank)]), compose([('truth', blank)])
    assert (untitled == 255).all()
    assert (titled[:40] < 128).any()


def test_default_palette_has_150_distinct_colours():
    palette = default_palette(150).astype(int)
    assert palette.shape == (150, 3)
    distances = np.abs(palette[:, None] - palette[None]).sum(axis=-1) + 1000 * np.eye(150)
    assert distances.min() > 20
    np.testing.assert_array_equal(default_palette(150)[:19], default_palette(19))
