"""CamVidDataset on the real files."""

import json

import pytest

from dpt.datasets import CamVidDataset
from dpt.registry import DATASETS


def build(root, split, **kwargs):
    prefix = {'img_path': f'images/{split}', 'seg_map_path': f'annotations/{split}'}
    return DATASETS.build({'type': 'CamVidDataset', 'data_root': str(root), 'data_prefix': prefix, **kwargs})


def test_classes_and_colours_equal_meta_file(camvid_root):
    meta = json.loads((camvid_root / 'meta.json').read_text())
    assert list(CamVidDataset.METAINFO['classes']) == meta['classes']
    assert CamVidDataset.METAINFO['palette'] == meta['palette']


@pytest.mark.parametrize(('split', 'count'), [('training', 367), ('validation', 101), ('test', 233)])
def test_images_and_labels_of_each_split(camvid_root, split, count):
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}, {'type': 'PackSegInputs'}]
    dataset = build(camvid_root, split, pipeline=pipeline)
    assert len(dataset) == count
    seen = set()
    for index in range(0, count, count // 5):
        item = dataset[index]
        labels = item['data_samples'].gt_sem_seg.data
        assert item['inputs'].shape == (3, *labels.shape[1:])
        seen |= set(labels.unique().tolist())
    assert seen <= {*range(11), 255}
    assert {0, 1, 3, 255} <= seen
