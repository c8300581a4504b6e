"""PackSegInputs: the tensors and the metainfo that models are given."""

import numpy as np
import pytest
import torch

from dpt.datasets import PackSegInputs
from dpt.structures import SegDataSample


def sample(**more):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return {'img': image, 'gt_seg_map': generator.integers(0, 9, (5, 7), dtype=np.uint8), **more}


def test_image_becomes_contiguous_uint8_tensor():
    results = sample()
    inputs = PackSegInputs()(results)['inputs']
    assert inputs.dtype == torch.uint8
    assert inputs.is_contiguous()
    np.testing.assert_array_equal(inputs.numpy(), results['img'].transpose(2, 0, 1))


def test_flipped_views_are_packed():
    results = sample()
    flipped = {key: np.flip(value, axis=1) for key, value in results.items()}
    packed = PackSegInputs()(flipped)
    labels = packed['data_samples'].gt_sem_seg.data
    np.testing.assert_array_equal(packed['inputs'].numpy(), results['img'][:, ::-1].transpose(2, 0, 1))
    np.testing.assert_array_equal(labels[0].numpy(), results['gt_seg_map'][:, ::-1])
    assert packed['inputs'].is_contiguous()


def test_labels_keep_uint8():
    results = sample()
    packed = PackSegInputs()(results)['data_samples']
    assert isinstance(packed, SegDataSample)
    assert packed.gt_sem_seg.data.dtype == torch.uint8
    np.testing.assert_array_equal(packed.gt_sem_seg.data.numpy(), results['gt_seg_map'][None])


def test_wider_labels_become_int64():
    labels = np.arange(35, dtype=np.int32).reshape(5, 7) + 1000
    data = PackSegInputs()(sample(gt_seg_map=labels))['data_samples'].gt_sem_seg.data
    assert data.dtype == torch.int64
    np.testing.assert_array_equal(data[0].numpy(), labels)


def test_grey_image_gets_a_channel():
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    inputs = PackSegInputs()(sample(img=grey))['inputs']
    np.testing.assert_array_equal(inputs.numpy(), grey[None])


def test_metainfo_holds_keys_of_sample():
    meta = {
        'img_path': 'i.jpg',
        'seg_map_path': 'm.png',
        'ori_shape': (50, 70),
        'img_shape': (5, 7),
        'pad_shape': (5, 7),
        'scale_factor': (0.1, 0.1),
        'flip': True,
        'flip_direction': 'horizontal',
        'reduce_zero_label': True,
    }
    assert PackSegInputs()(sample(**meta, scale=3))['data_samples'].metainfo == meta
    assert PackSegInputs()(sample(flip=False))['data_samples'].metainfo == {'flip': False}


def test_what_restoring_needs_is_packed_whatever_meta_keys():
    needed = dict(ori_shape=(50, 70), img_shape=(5, 7), flip=True, flip_direction='vertical', ignore_index=9)
    packed = PackSegInputs(meta_keys=['img_path'])(sample(**needed, img_path='i.jpg', scale=3))
    assert packed['data_samples'].metainfo == dict(needed, img_path='i.jpg')


def test_labels_that_a_transform_wrote_raise():
    checked = dict(num_classes=9, ignore_index=9, seg_map_path='m.png')
    for label in (8, 9):
        PackSegInputs()(sample(**checked, gt_seg_map=np.full((5, 7), label, np.uint8)))
    with pytest.raises(ValueError, match=r'wrote the label 255 into the mask m\.png.*seg=9'):
        PackSegInputs()(sample(**checked, gt_seg_map=np.full((5, 7), 255, np.uint8)))


def test_sample_without_labels_has_no_annotation():
    results = sample()
    del results['gt_seg_map']
    assert 'gt_sem_seg' not in PackSegInputs()(results)['data_samples']


def test_labels_that_are_not_2d_raise():
    with pytest.raises(ValueError, match=r'm\.png have shape \(5, 7, 3\)'):
        PackSegInputs()(sample(gt_seg_map=np.zeros((5, 7, 3), np.uint8), seg_map_path='m.png'))
