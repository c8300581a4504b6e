"""The visualizer, as hooks and users call it."""

from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer

from dpt.registry import VISBACKENDS, VISUALIZERS
from dpt.structures import SegDataSample
from dpt.visualization import SegLocalVisualizer

CLASSES = ('sky', 'road', 'tree', 'car')
PALETTE = [[200, 10, 30], [0, 120, 250], [90, 255, 60], [250, 200, 0]]
IMAGE = np.full((96, 128, 3), 128, np.uint8)


def data_sample(truth=None, prediction=None):
    sample = SegDataSample()
    if truth is not None:
        sample.gt_sem_seg = PixelData(data=torch.as_tensor(truth, dtype=torch.uint8)[None])
    if prediction is not None:
        sample.pred_sem_seg = PixelData(data=torch.as_tensor(prediction)[None])
    return sample


def halves(upper, lower):
    labels = np.full((96, 128), upper)
    labels[48:] = lower
    return labels


@pytest.fixture
def visualizer():
    return SegLocalVisualizer(classes=CLASSES, palette=PALETTE)


@pytest.fixture
def panels_and_legend(monkeypatch):
    """Titles and names that are composed."""
    seen = {}

    def record(panels, names, colours, bars):
        seen.update(titles=[title for title, _ in panels], names=list(names), colours=colours.tolist())
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr('dpt.visualization.visualizer.compose', record)
    return seen


def test_legend_lists_exactly_the_present_classes(visualizer):
    """On a grey image no blended pixel has a colour of the palette: those are in the legend alone."""
    picture = visualizer.render(IMAGE, data_sample(halves(0, 255), halves(0, 3)))
    shown = [bool((picture == np.array(colour)).all(axis=-1).any()) for colour in PALETTE]
    assert shown == [True, False, False, True]


@pytest.mark.parametrize(
    ('truth', 'prediction', 'flags', 'titles', 'names'),
    [
        (halves(0, 1), halves(0, 2), {}, ['image', 'ground truth', 'prediction', 'errors 50.0 %'], [0, 1, 2]),
        (
            halves(1, 255),
            halves(1, 3),
            {},
            ['image', 'ground truth (50.0 % unlabelled)', 'prediction', 'errors 0.0 %'],
            [1, 3],
        ),
        (None, halves(0, 2), {}, ['image', 'prediction'], [0, 2]),
        (halves(0, 1), None, {}, ['image', 'ground truth'], [0, 1]),
        (halves(0, 1), halves(0, 2), dict(draw_gt=False), ['image', 'prediction'], [0, 2]),
        (halves(0, 1), halves(0, 2), dict(draw_pred=False), ['image', 'ground truth'], [0, 1]),
        (None, None, {}, ['image'], []),
        (
            halves(255, 255),
            halves(0, 0),
            {},
            ['image', 'ground truth (100.0 % unlabelled)', 'prediction', 'errors (nothing labelled)'],
            [0],
        ),
    ],
)
def test_panels_follow_what_there_is(visualizer, panels_and_legend, truth, prediction, flags, titles, names):
    visualizer.render(IMAGE, data_sample(truth, prediction), **flags)
    assert panels_and_legend['titles'] == titles
    assert panels_and_legend['names'] == [CLASSES[k] for k in names]
    assert panels_and_legend['colours'] == [PALETTE[k] for k in names]


def test_file_and_backends_get_the_picture_in_rgb(tmp_path):
    config = dict(type='SegLocalVisualizer', name='backends', save_dir=str(tmp_path))
    visualizer = VISUALIZERS.build(dict(config, vis_backends=[dict(type='LocalVisBackend')]))
    visualizer.dataset_meta = dict(classes=CLASSES, palette=PALETTE)
    sample, out_file = data_sample(halves(0, 1), halves(0, 3)), tmp_path / 'new/x.png'
    visualizer.add_datasample('val_x', IMAGE, sample, step=7)
    visualizer.add_datasample('x', IMAGE, sample, out_file=str(out_file))
    (recorded,) = tmp_path.glob('**/val_x_7.png')
    for file in (recorded, out_file):
        written = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(written, visualizer.render(IMAGE, sample))


def test_dataset_meta_replaces_classes(visualizer, panels_and_legend):
    visualizer.dataset_meta = dict(classes=('a', 'b', 'c', 'd', 'e'))
    visualizer.render(IMAGE, data_sample(prediction=halves(4, 0)))
    assert panels_and_legend['names'] == ['a', 'e']
    assert visualizer.dataset_meta['classes'][4] == 'e'


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(classes=CLASSES, palette=PALETTE[:3]), 'each of the 4 classes'),
        (dict(classes=CLASSES, palette=[[0, 0]] * 4), 'each of the 4 classes'),
        (dict(alpha=1.5), 'alpha'),
        ({}, 'classes'),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SegLocalVisualizer(**kwargs).render(IMAGE, data_sample(prediction=halves(0, 1)))


def test_windows_need_a_display(visualizer, monkeypatch):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY', 'MPLBACKEND'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr('sys.platform', 'linux')
    monkeypatch.setattr(Visualizer, 'show', lambda *args, **kwargs: pytest.fail('a window was opened'))
    with pytest.raises(ValueError, match='display'):
        visualizer.add_datasample('x', IMAGE, show=True)


def test_mlflow_gets_a_key_and_a_step(tmp_path):
    backend = VISBACKENDS.build(dict(type='MLflowVisBackend', save_dir=str(tmp_path)))
    backend._mlflow, backend._env_initialized = Mock(), True
    image = np.zeros((4, 6, 3), np.uint8)
    backend.add_image('val_a', image, step=350)
    backend._mlflow.log_image.assert_called_once_with(image, key='val_a', step=350)
