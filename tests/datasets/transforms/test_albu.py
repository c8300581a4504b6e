"""Transforms of albumentations inside a pipeline."""

import copy
import sys

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from dpt.config.mmseg.shared import check_shared
from dpt.config.parts import check_parts
from dpt.registry import TRANSFORMS

SHIFT = dict(type='Affine', translate_px=dict(x=3, y=0), p=1.0)
NOISE = dict(type='OneOf', p=0.9, transforms=[dict(type='GaussNoise', p=1.0), dict(type='Blur', p=1.0)])


@pytest.fixture
def sample() -> dict:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    labels = (image[..., 0] % 5).astype(np.uint8)
    return dict(img=image, gt_seg_map=labels, seg_fields=['gt_seg_map'], img_path='a.jpg')


@pytest.fixture
def albumentations():
    return pytest.importorskip('albumentations')


def apply(sample: dict, *transforms: dict, seed: int = 0, **options) -> dict:
    np.random.seed(seed)
    return TRANSFORMS.build(dict(type='Albu', transforms=list(transforms), **options))(dict(sample))


@pytest.mark.usefixtures('albumentations')
def test_image_and_mask_move_together(sample) -> None:
    found = apply(sample, SHIFT)
    np.testing.assert_array_equal(found['img'][:, 3:], sample['img'][:, :-3])
    np.testing.assert_array_equal(found['gt_seg_map'][:, 3:], sample['gt_seg_map'][:, :-3])
    assert (found['gt_seg_map'][:, :3] == 255).all()
    assert (apply(sample, dict(SHIFT, fill_mask=2))['gt_seg_map'][:, :3] == 2).all()
    assert (found['img_path'], found['img_shape']) == ('a.jpg', (20, 30))


@pytest.mark.usefixtures('albumentations')
@pytest.mark.parametrize('keymap', [None, dict(img='image')])
def test_every_map_of_the_sample_moves(sample, keymap) -> None:
    sample |= dict(gt_edge_map=sample['gt_seg_map'] % 2, gt_depth=sample['gt_seg_map'] / np.float32(3))
    sample['seg_fields'] += ['gt_edge_map', 'gt_depth']
    found = apply(sample, SHIFT, keymap=keymap)
    for name in sample['seg_fields']:
        np.testing.assert_array_equal(found[name][:, 3:], sample[name][:, :-3])


@pytest.mark.usefixtures('albumentations')
def test_depth_outside_seg_fields_keeps_its_numbers(sample) -> None:
    depth = np.full(sample['img'].shape[:2], 2, np.float32)
    found = apply(dict(sample, gt_depth_map=depth), SHIFT)
    np.testing.assert_array_equal(found['gt_depth_map'], depth)


@pytest.mark.usefixtures('albumentations')
@pytest.mark.parametrize(('shape', 'channels'), [((20, 30, 4), 4), ((20, 30), 1)])
def test_images_with_other_channels_are_refused(sample, shape, channels) -> None:
    with pytest.raises(ValueError, match=f'Albu needs RGB images: a.jpg has {channels} channels'):
        apply(dict(sample, img=np.zeros(shape, np.uint8)), SHIFT)


@pytest.mark.usefixtures('albumentations')
def test_image_is_rgb_inside(sample) -> None:
    found = apply(sample, dict(type='ToGray', p=1.0))
    assert abs(found['img'][..., 0].astype(int) - cv2.cvtColor(sample['img'], cv2.COLOR_BGR2GRAY)).max() <= 1


@pytest.mark.usefixtures('albumentations')
def test_random_numbers_depend_on_numpy_seed_alone(sample) -> None:
    first, again, other = (apply(sample, NOISE, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first['img'], again['img'])
    assert (first['img'] != other['img']).any()


@pytest.mark.usefixtures('albumentations')
def test_size_after_cropping_is_recorded(sample) -> None:
    found = apply(sample, dict(type='CenterCrop', height=10, width=8), update_pad_shape=True)
    assert found['img'].shape[:2] == found['gt_seg_map'].shape == found['img_shape'] == (10, 8)
    assert found['pad_shape'] == (10, 8)


@pytest.mark.usefixtures('albumentations')
@pytest.mark.parametrize(
    ('transform', 'message'),
    [
        (dict(type='Blurr'), "has no transform 'Blurr'"),
        (dict(type='Blur', limit=3), "Blur of albumentations has no argument 'limit', only "),
        ('Blur', "expected a dict with 'type'"),
    ],
)
def test_wrong_transform_raises(transform, message) -> None:
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(dict(type='Albu', transforms=[transform]))


def test_missing_package_is_named_in_one_line(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'albumentations', None)
    with pytest.raises(
        ImportError, match=r'^Albu needs the package albumentations, .*: pip install alb'
    ) as caught:
        TRANSFORMS.build(dict(type='Albu', transforms=[]))
    assert len(str(caught.value).splitlines()) == 1


def test_inner_transforms_are_left_to_albumentations() -> None:
    pipeline = [dict(type='Albu', transforms=[copy.deepcopy(NOISE)])]
    assert not [*check_parts(pipeline, 'pipeline', TRANSFORMS)]
    check_shared(Config(dict(tta_pipeline=pipeline)), [])
