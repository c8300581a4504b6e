"""Colours, scale bars and errors of depth."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from dpt.structures import SegDataSample
from dpt.visualization import DepthScale, SegLocalVisualizer
from dpt.visualization.depth import UNMEASURED, aligned, draw_depth_errors, thickened

IMAGE = np.full((96, 128, 3), 128, np.uint8)


def ramp(near=1.0, far=10.0):
    """Depth that grows by equal ratios from left to right."""
    return np.tile(np.geomspace(near, far, 128, dtype=np.float32), (96, 1))


def sample(truth=None, prediction=None, **meta):
    one = SegDataSample(metainfo=meta)
    for name, depth in (('gt_depth_map', truth), ('pred_depth_map', prediction)):
        if depth is not None:
            setattr(one, name, PixelData(data=torch.from_numpy(depth)[None]))
    return one


def is_red(colour):
    return int(colour[0]) > int(colour[2])


@pytest.mark.parametrize(('depth', 'relative'), [(ramp(), False), (1 / ramp(), True)])
def test_near_is_red_and_far_blue(depth, relative):
    picture = DepthScale.of(depth, relative=relative).draw(depth)
    assert is_red(picture[0, 5])
    assert not is_red(picture[0, -5])


def test_pixels_without_depth_are_dark():
    depth = ramp()
    depth[0, :4] = 0, -1, np.nan, np.inf
    picture = DepthScale.of(depth).draw(depth)
    assert (picture[0, :4] == UNMEASURED).all()
    assert not (picture[1] == UNMEASURED).all(axis=-1).any()


@pytest.mark.parametrize(
    ('near', 'far', 'labels'),
    [
        (1, 80, ['1 m', '2 m', '5 m', '10 m', '20 m', '50 m', '80 m']),
        (1.2, 6, ['1.2 m', '1.5 m', '2 m', '3 m', '4 m', '5 m', '6 m']),
        (2, 2.5, ['2 m', '2.1 m', '2.2 m', '2.3 m', '2.4 m', '2.5 m']),
    ],
)
def test_scale_bar_has_round_numbers(near, far, labels):
    ticks = DepthScale(near, far).bar().ticks
    assert [label for _, label in ticks] == labels
    assert ticks[0][0] == 0
    assert ticks[-1][0] == pytest.approx(1)
    assert [place for place, _ in ticks] == sorted(place for place, _ in ticks)


def test_narrow_bars_keep_the_labels_of_their_ends():
    def ink(picture, columns):
        return (picture[26:, columns] < 100).any()  # below the bar and its ticks

    picture = DepthScale(1.25, 60).bar().draw(200, 12)
    assert ink(picture, slice(30, 60))
    assert ink(picture, slice(159, 168))


def test_constant_and_empty_maps_have_a_scale():
    for depth in (np.full((4, 4), 3, np.float32), np.zeros((4, 4), np.float32)):
        assert DepthScale.of(depth).draw(depth).shape == (4, 4, 3)


def test_errors_are_blue_where_too_near():
    truth = ramp()
    picture, error = draw_depth_errors(np.where(np.arange(128) < 64, 0.9, 1.1) * truth, truth)
    assert not is_red(picture[0, 0])
    assert is_red(picture[0, -1])
    assert error == pytest.approx(0.1, rel=1e-4)


def test_relative_predictions_are_fitted_to_the_truth():
    truth = ramp()
    truth[:, :20] = 0
    np.testing.assert_allclose(aligned(3 / ramp() - 0.2, truth), ramp(), rtol=1e-4)


def test_sparse_truth_becomes_visible():
    truth = np.zeros((20, 20), np.float32)
    truth[5, 5], truth[5, 6] = 7, 3
    grown = thickened(truth)
    assert (grown > 0).sum() == 12
    assert grown[5, 4] == pytest.approx(7)
    assert grown[5, 6] == pytest.approx(3)
    np.testing.assert_array_equal(thickened(ramp()), ramp())


@pytest.mark.parametrize(
    ('truth', 'prediction', 'relative', 'titles'),
    [
        (
            ramp(),
            1.1 * ramp(),
            False,
            ['image', 'true depth', 'predicted depth', 'mean relative error 10.0 %'],
        ),
        (None, ramp(), True, ['image', 'predicted depth (relative)']),
        (
            ramp(),
            1 / ramp(),
            True,
            ['image', 'true depth', 'predicted depth (scale and shift fitted)', 'mean relative error 0.0 %'],
        ),
        (0 * ramp(), None, False, ['image', 'true depth (100.0 % not measured)']),
    ],
)
def test_panels_follow_what_there_is(monkeypatch, truth, prediction, relative, titles):
    seen = {}
    monkeypatch.setattr(
        'dpt.visualization.visualizer.compose', lambda panels, *_, bars: seen.update(panels=panels, bars=bars)
    )
    SegLocalVisualizer().render(IMAGE, sample(truth, prediction, relative_depth=relative))
    assert [title for title, _ in seen['panels']] == titles
    assert len(seen['bars']) == (2 if len(titles) == 4 else 1)


@pytest.mark.parametrize(('prediction', 'relative'), [(ramp(), False), (1 / ramp(), True)])
def test_only_bars_of_metric_models_have_a_unit(monkeypatch, prediction, relative):
    seen = {}
    monkeypatch.setattr('dpt.visualization.visualizer.compose', lambda *_, bars: seen.update(bar=bars[0]))
    SegLocalVisualizer().render(IMAGE, sample(ramp(), prediction, relative_depth=relative))
    labels = [label for _, label in seen['bar'].ticks]
    assert {'2 m', '5 m'} <= set(labels) or {'2', '5'} <= set(labels)
    assert {label.endswith(' m') for label in labels} == {not relative}


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r'depth of size \(48, 128\)'):
        SegLocalVisualizer().render(IMAGE, sample(ramp()[:48]))
