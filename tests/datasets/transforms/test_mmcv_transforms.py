"""What we rely on in mmcv's transforms, beside ours in one pipeline."""

import mmcv.transforms
import numpy as np
import pytest
import torch

from dpt.datasets import BaseSegDataset
from dpt.registry import TRANSFORMS

PREFIX = {'img_path': 'images', 'seg_map_path': 'annotations'}
LOAD = ({'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'})
PACK = {'type': 'PackSegInputs'}


def read(root, *pipeline, **kwargs):
    dataset = BaseSegDataset(
        data_root=str(root),
        data_prefix=PREFIX,
        metainfo={'classes': tuple('abcde')},
        pipeline=pipeline,
        **kwargs,
    )
    return dataset[0]


@pytest.mark.parametrize('name', ['Resize', 'RandomResize', 'RandomFlip', 'TestTimeAug'])
def test_names_of_mmcv_resolve_in_dpt_scope(name):
    assert issubclass(TRANSFORMS.get(name), getattr(mmcv.transforms, name))


def test_flip_turns_labels_and_is_recorded(make_root):
    root = make_root('a')
    before, after = read(root, *LOAD), read(root, *LOAD, {'type': 'RandomFlip', 'prob': 1.0})
    np.testing.assert_array_equal(after['gt_seg_map'], before['gt_seg_map'][:, ::-1])
    np.testing.assert_array_equal(after['img'], before['img'][:, ::-1])
    packed = read(root, *LOAD, {'type': 'RandomFlip', 'prob': 1.0}, PACK)['data_samples']
    assert (packed.flip, packed.flip_direction) == (True, 'horizontal')
    packed = read(root, *LOAD, {'type': 'RandomFlip', 'prob': 0.0}, PACK)['data_samples']
    assert (packed.flip, packed.flip_direction) == (False, None)


def test_test_pipeline_keeps_original_size_of_labels(make_root):
    load_image, load_labels = LOAD
    resize = {'type': 'Resize', 'scale': (68, 42), 'keep_ratio': True}
    item = read(make_root('a'), load_image, resize, load_labels, PACK)
    sample = item['data_samples']
    assert item['inputs'].shape == (3, 42, 68)
    assert sample.gt_sem_seg.shape == (21, 34)
    assert (sample.ori_shape, sample.img_shape, sample.scale_factor) == ((21, 34), (42, 68), (2.0, 2.0))


def test_test_time_augmentation_gives_lists_with_original_labels(make_root):
    root = make_root('a')
    load_image, load_labels = LOAD
    resizes = [{'type': 'Resize', 'scale_factor': factor} for factor in (1.0, 2.0)]
    flips = [{'type': 'RandomFlip', 'prob': prob} for prob in (0.0, 1.0)]
    augment = {'type': 'TestTimeAug', 'transforms': [resizes, flips, [load_labels], [PACK]]}
    item = read(root, load_image, augment)
    assert [tuple(image.shape) for image in item['inputs']] == [(3, 21, 34)] * 2 + [(3, 42, 68)] * 2
    assert torch.equal(item['inputs'][1], item['inputs'][0].flip(-1))
    assert [sample.flip for sample in item['data_samples']] == [False, True, False, True]
    labels = read(root, *LOAD)['gt_seg_map']
    for sample in item['data_samples']:
        np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), labels)


def test_training_pipeline_depends_on_numpy_seed_alone(make_root):
    root = make_root('a')
    pipeline = (
        *LOAD,
        {'type': 'RandomResize', 'scale': (96, 48), 'ratio_range': (0.5, 2.0), 'keep_ratio': True},
        {'type': 'RandomCrop', 'crop_size': (24, 24), 'cat_max_ratio': 0.75},
        {'type': 'RandomFlip', 'prob': 0.5},
        {'type': 'PhotoMetricDistortion'},
        PACK,
    )
    items = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        items.append(read(root, *pipeline))
    first, again, other = items
    assert torch.equal(first['inputs'], again['inputs'])
    labels = [item['data_samples'].gt_sem_seg.data for item in items]
    assert torch.equal(labels[0], labels[1])
    assert labels[0].dtype == torch.uint8
    assert first['inputs'].shape != other['inputs'].shape or not torch.equal(first['inputs'], other['inputs'])
