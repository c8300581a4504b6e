"""Labels outside the classes are told with file, value and remedy."""

import re

import cv2
import numpy as np
import pytest

from dpt.datasets import LoadAnnotations
from dpt.datasets.bad_sample import BadSampleError
from dpt.datasets.labels import outside_labels


def sample(path, disk, num_classes, **kwargs):
    assert cv2.imwrite(str(path), disk)
    return {'seg_map_path': str(path), 'num_classes': num_classes, **kwargs}


@pytest.mark.parametrize('dtype', [np.uint8, np.int32])
@pytest.mark.parametrize('ignore_index', [255, 0, 7, 200])
@pytest.mark.parametrize('num_classes', [1, 5, 150, 255, 256])
def test_outside_labels_are_neither_class_nor_ignored(dtype, ignore_index, num_classes):
    for values in ([0, 4], [255, 255], [0, 5, 255], [7, 200], [254, 149, 150], [255], [num_classes - 1]):
        labels = np.array([values]).astype(dtype)
        expected = sorted({v for v in labels[0].tolist() if v >= num_classes and v != ignore_index})
        assert outside_labels(labels, num_classes, ignore_index) == expected


def test_error_names_file_value_and_remedy(tmp_path):
    disk = np.array([[0, 1, 2], [255, 9, 77]], np.uint8)
    with pytest.raises(BadSampleError) as caught:
        LoadAnnotations()(sample(tmp_path / 'm.png', disk, 3))
    assert str(caught.value) == (
        f'mask {tmp_path}/m.png contains the label 9, 77, used as class 9, 77, but the 3 classes are 0 to 2 '
        'and 255 is ignored: list all classes in metainfo, or label pixels without a class 255'
    )
    assert caught.value.kind == 'label outside the classes'


def test_one_label_too_many_suggests_reduce_zero_label(tmp_path):
    disk = np.array([[0, 1, 2, 3]], np.uint8)
    expected = "set reduce_zero_label=True on the data set if 0 means 'no label'"
    with pytest.raises(BadSampleError, match=expected):
        LoadAnnotations()(sample(tmp_path / 'm.png', disk, 3, reduce_zero_label=False))
    labels = LoadAnnotations()(sample(tmp_path / 'm.png', disk, 3, reduce_zero_label=True))['gt_seg_map']
    assert labels.tolist() == [[255, 0, 1, 2]]


def test_error_names_label_on_disk_and_trained_label(tmp_path):
    disk = np.array([[0, 1, 9]], np.uint8)
    with pytest.raises(BadSampleError, match=re.escape('contains the label 9, used as class 8,')):
        LoadAnnotations()(sample(tmp_path / 'm.png', disk, 3, reduce_zero_label=True))


def test_sample_without_data_set_is_not_checked(tmp_path):
    path = tmp_path / 'm.png'
    cv2.imwrite(str(path), np.full((2, 2), 99, np.uint8))
    assert LoadAnnotations()({'seg_map_path': str(path)})['gt_seg_map'].max() == 99
