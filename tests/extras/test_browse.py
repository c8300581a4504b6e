"""The contact sheet of what the network sees."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from dpt.extras.browse import browse, seen
from dpt.models import SegDataPreProcessor
from dpt.structures import SegDataSample

CLASSES = ('sky', 'road', 'car')
PALETTE = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]


def preprocessor(**kwargs):
    kwargs = dict(dict(mean=[120.0, 110.0, 100.0], std=[50.0, 60.0, 70.0], bgr_to_rgb=True), **kwargs)
    return SegDataPreProcessor(**kwargs)


def sample(size=(20, 30), label_size=None, seed=0):
    random = np.random.default_rng(seed)
    inputs = torch.from_numpy(random.integers(0, 256, (3, *size), dtype=np.uint8))
    data_sample = SegDataSample(metainfo=dict(img_path=f'/x/{seed}.png', img_shape=size))
    labels = random.integers(0, 3, (1, *(label_size or size)), dtype=np.uint8)
    data_sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels))
    return dict(inputs=inputs, data_samples=data_sample)


def test_normalisation_is_undone_exactly_and_padding_is_seen():
    one = sample()
    expected = one['inputs'].flip(0).permute(1, 2, 0).numpy()
    truth = one['data_samples'].gt_sem_seg.data[0].numpy().copy()
    found = seen(preprocessor(size=(24, 32)), one, training=True)
    picture, labels = found.picture, found.labels
    np.testing.assert_array_equal(picture[:20, :30], expected)
    np.testing.assert_array_equal(picture[23, 31], [120, 110, 100])  # zero after normalisation
    np.testing.assert_array_equal(labels[:20, :30], truth)
    assert (labels[20:] == 255).all()


def test_a_wrong_order_of_channels_shows():
    one = sample()
    expected = one['inputs'].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(seen(preprocessor(bgr_to_rgb=False), one, training=True).picture, expected)


def test_original_labels_are_resized_to_the_image():
    one = sample((20, 30), (40, 60))
    truth = one['data_samples'].gt_sem_seg.data[0].numpy()
    found = seen(preprocessor(test_cfg=dict(size_divisor=16)), one, training=False)
    picture, labels = found.picture, found.labels
    assert picture.shape == (32, 32, 3)
    np.testing.assert_array_equal(labels[:20, :30], truth[::2, ::2])
    assert (labels[20:] == 255).all()
    assert (labels[:, 30:] == 255).all()


def test_sheet_has_a_pair_for_each_sample_and_one_legend():
    samples = [sample((320, 320), seed=seed) for seed in range(3)]
    pictures = [one['inputs'].flip(0).permute(1, 2, 0).numpy() for one in samples]
    sheet = browse(samples, preprocessor(), CLASSES, PALETTE, training=True)
    gap, bar = 6, 29
    for i, picture in enumerate(pictures):
        top = bar + (i // 2) * (bar + 320 + gap)
        left = gap + (i % 2) * 2 * (320 + gap)
        np.testing.assert_array_equal(sheet[top : top + 320, left : left + 320], picture)
        beside = sheet[top : top + 320, left + 320 + gap : left + 640 + gap]
        assert (beside != picture).any(axis=-1).mean() > 0.9
    legend = sheet[2 * (bar + 320 + gap) :]
    for colour in PALETTE:
        assert (legend == np.array(colour)).all(axis=-1).any()


def test_without_labels_or_samples_or_three_channels():
    one = sample()
    del one['data_samples'].gt_sem_seg
    assert seen(preprocessor(), one, training=False).labels is None
    browse([one], preprocessor(), CLASSES, training=False)
    with pytest.raises(ValueError, match='no samples'):
        browse([], preprocessor(), CLASSES, training=True)
    grey = sample()
    grey['inputs'] = grey['inputs'][:1]
    with pytest.raises(ValueError, match='3 channels'):
        seen(preprocessor(mean=[1.0], std=[1.0], bgr_to_rgb=False), grey, training=True)


def test_resized_depth_has_one_scale_bar():
    one = sample((20, 30))
    truth = np.arange(1, 1201, dtype=np.float32).reshape(1, 30, 40)
    one['data_samples'].gt_depth_map = PixelData(data=torch.from_numpy(truth))
    del one['data_samples'].gt_sem_seg
    depth = seen(preprocessor(test_cfg=dict(size_divisor=16)), one, training=False).depth
    assert depth.shape == (32, 32)
    assert depth[0, 0] == 1
    assert (depth[20:] == 0).all()
    sheet = browse([one], preprocessor(), (), training=False)
    assert len(np.unique(sheet[-60:].reshape(-1, 3), axis=0)) > 100  # the colours of the bar


@pytest.mark.parametrize('unit', ['m', ''])
def test_bars_show_the_unit_of_depth(monkeypatch, unit):
    one = sample((20, 30))
    one['data_samples'].gt_depth_map = PixelData(data=torch.full((1, 20, 30), 5.0))
    del one['data_samples'].gt_sem_seg
    seen = {}
    monkeypatch.setattr('dpt.extras.browse.contact_sheet', lambda *_, bars: seen.update(bar=bars[0]))
    browse([one], preprocessor(), (), training=False, unit=unit)
    assert {label.endswith(' m') for _, label in seen['bar'].ticks} == {bool(unit)}
