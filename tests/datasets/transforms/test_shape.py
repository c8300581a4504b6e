"""Rotation, cut-out and resizing by the shorter side move image and labels together."""

import numpy as np
import pytest

from dpt.registry import TRANSFORMS


@pytest.fixture
def sample() -> dict:
    """Image of 8x8 pixels whose labels are its first channel."""
    image = np.random.default_rng(0).integers(1, 5, (8, 8, 3), dtype=np.uint8)
    return dict(img=image, gt_seg_map=image[..., 0].copy(), seg_fields=['gt_seg_map'], img_shape=(8, 8))


def apply(sample: dict, seed: int = 0, **config) -> dict:
    np.random.seed(seed)
    return TRANSFORMS.build(config)(dict(sample))


@pytest.mark.parametrize(('degree', 'turns'), [((90, 90), 3), ((-90, -90), 1), ((180, 180), 2)])
def test_positive_angle_rotates_clockwise(degree, turns, sample) -> None:
    turned = apply(sample, type='RandomRotate', prob=1.0, degree=degree)
    np.testing.assert_array_equal(turned['img'], np.rot90(sample['img'], turns))
    np.testing.assert_array_equal(turned['gt_seg_map'], np.rot90(sample['gt_seg_map'], turns))


@pytest.mark.parametrize(('dtype', 'void'), [(np.uint8, 255), (np.int32, 65535)])
def test_new_pixels_get_pad_value_and_void_label(dtype, void, sample) -> None:
    sample.update(gt_seg_map=sample['gt_seg_map'].astype(dtype), ignore_index=void)
    turned = apply(sample, type='RandomRotate', prob=1.0, degree=(45, 45), pad_val=7, auto_bound=True)
    assert turned['img'].shape[:2] == turned['gt_seg_map'].shape == turned['img_shape'] == (11, 11)
    assert (turned['img'][0, 0] == 7).all()
    assert turned['gt_seg_map'].dtype == dtype
    assert turned['gt_seg_map'][0, 0] == void
    given = apply(sample, type='RandomRotate', prob=1.0, degree=(45, 45), seg_pad_val=3)
    assert given['gt_seg_map'][0, 0] == 3


def test_rotation_draws_probability_then_angle(sample) -> None:
    np.random.seed(3)
    chance, angle = np.random.rand(), np.random.uniform(-20, 20)
    config = dict(type='RandomRotate', degree=20)
    assert apply(sample, 3, prob=chance, **config)['img'] is sample['img']
    turned = apply(sample, 3, prob=chance + 1e-9, **config)
    expected = apply(sample, type='RandomRotate', prob=1.0, degree=(angle, angle))
    np.testing.assert_array_equal(turned['img'], expected['img'])


@pytest.mark.parametrize('label', [None, 9])
@pytest.mark.parametrize('shape', [dict(cutout_shape=[(4, 2), (1, 3)]), dict(cutout_ratio=[(0.5, 0.25)])])
def test_holes_follow_the_draws_of_mmsegmentation(shape, label, sample) -> None:
    candidates = next(iter(shape.values()))
    np.random.seed(5)
    assert np.random.rand() < 0.9
    image, labels = sample['img'].copy(), sample['gt_seg_map'].copy()
    for _ in range(np.random.randint(2, 5)):
        x, y, index = np.random.randint(0, 8), np.random.randint(0, 8), np.random.randint(0, len(candidates))
        width, height = candidates[index]
        if 'cutout_ratio' in shape:
            width, height = int(8 * width), int(8 * height)
        image[y : y + height, x : x + width] = (7, 8, 9)
        labels[y : y + height, x : x + width] = labels[y : y + height, x : x + width] if label is None else 9
    before = sample['img'].copy()
    config = dict(type='RandomCutOut', prob=0.9, n_holes=[2, 4], fill_in=(7, 8, 9), seg_fill_in=label)
    found = apply(sample, 5, **config, **shape)
    np.testing.assert_array_equal(found['img'], image)
    np.testing.assert_array_equal(found['gt_seg_map'], labels)
    np.testing.assert_array_equal(sample['img'], before)  # other epochs may share it


@pytest.mark.parametrize(
    ('size', 'expected'),
    [((50, 100), (20, 40)), ((100, 50), (40, 20)), ((50, 250), (12, 60)), ((10, 10), (20, 20))],
)
def test_shorter_side_is_resized_unless_longer_exceeds(size, expected) -> None:
    sample = dict(img=np.zeros((*size, 3), np.uint8), gt_seg_map=np.zeros(size, np.uint8))
    for scale in (20, (30, 20)):
        found = apply(sample, type='ResizeShortestEdge', scale=scale, max_size=60)
        assert found['img'].shape[:2] == found['gt_seg_map'].shape == found['img_shape'] == expected
        assert found['scale_factor'] == (expected[1] / size[1], expected[0] / size[0])


def test_shorter_side_is_chosen_at_random() -> None:
    config = dict(type='RandomChoiceResize', scales=[16, 32], resize_type='ResizeShortestEdge', max_size=99)
    sizes = {
        apply(dict(img=np.zeros((40, 50, 3), np.uint8)), seed, **config)['img_shape'] for seed in range(9)
    }
    assert sizes == {(16, 20), (32, 40)}


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='RandomRotate', prob=2, degree=9), 'prob=2 must be from 0 to 1'),
        (dict(type='RandomRotate', prob=1, degree=(1, 2, 3)), r'degree=\(1, 2, 3\)'),
        (dict(type='RandomRotate', prob=1, degree=9, center=(0, 0), auto_bound=True), 'exclude each other'),
        (dict(type='RandomCutOut', prob=1, n_holes=1), 'cutout_shape or cutout_ratio'),
        (dict(type='RandomCutOut', prob=1, n_holes=(3, 1), cutout_shape=(2, 2)), r'n_holes=\(3, 1\)'),
        (dict(type='ResizeShortestEdge', scale=9, max_size=0), 'max_size=0 must be at least 1'),
    ],
)
def test_wrong_argument_raises(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(config)


@pytest.mark.parametrize('channels', [(), (1,), (4,)])
def test_cutout_of_images_with_other_channels(channels) -> None:
    config = dict(type='RandomCutOut', prob=1, n_holes=5, cutout_shape=(4, 4))
    image = np.ones((8, 8, *channels), np.uint8)
    for fill_in in (7, (7,) * (channels[0] if channels else 1)):
        found = TRANSFORMS.build(dict(config, fill_in=fill_in))(dict(img=image))['img']
        assert (found.shape, set(np.unique(found))) == (image.shape, {1, 7})
    with pytest.raises(
        ValueError, match=r'fill_in=\(0, 0, 0\) must be one number or one per channel; a.png has'
    ):
        TRANSFORMS.build(dict(config, fill_in=(0, 0, 0)))(dict(img=image, img_path='a.png'))
