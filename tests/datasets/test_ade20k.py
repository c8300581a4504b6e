"""ADE20KDataset: its classes, its labels, and what it tells a user without the data."""

import csv
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from dpt.datasets import ADE20KDataset

PREFIX = {'img_path': 'images/training', 'seg_map_path': 'annotations/training'}
URL = 'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip'


def error_of(root: Path) -> str:
    with pytest.raises(FileNotFoundError) as caught:
        ADE20KDataset(data_root=str(root), data_prefix=PREFIX)
    return str(caught.value)


def test_150_classes_with_colours():
    classes, palette = ADE20KDataset.METAINFO['classes'], np.array(ADE20KDataset.METAINFO['palette'])
    assert len(set(classes)) == 150
    assert (classes[0], classes[12], classes[149]) == ('wall', 'person', 'flag')
    assert palette.shape == (150, 3)
    assert palette[:3].tolist() == [[120, 120, 120], [180, 120, 120], [6, 230, 230]]


def test_classes_are_in_benchmark_order(ade_sample_root):
    with open(ade_sample_root / 'objectInfo150.csv') as file:
        official = [row['Name'].lower() for row in csv.DictReader(file)]
    for name, synonyms in zip(ADE20KDataset.METAINFO['classes'], official, strict=True):
        assert any(name.strip() in synonym or synonym in name for synonym in synonyms.split(';')), name


def test_labels_of_real_files_are_reduced_by_one(ade_sample_root):
    dataset = ADE20KDataset(
        data_root=str(ade_sample_root),
        data_prefix={'img_path': 'images/validation', 'seg_map_path': 'annotations/validation'},
        pipeline=[{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}, {'type': 'PackSegInputs'}],
    )
    assert len(dataset) == 3
    assert dataset.metainfo['reduce_zero_label'] is True
    for item in dataset:
        sample = item['data_samples']
        disk = cv2.imread(sample.seg_map_path, cv2.IMREAD_GRAYSCALE).astype(int)
        expected = np.where(disk == 0, 255, disk - 1)
        np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), expected)
        assert item['inputs'].shape[1:] == expected.shape


def test_missing_data_error_names_archive_url_and_folder(tmp_path):
    message = error_of(tmp_path / 'ade')
    for part in (str(tmp_path / 'ade/images/training'), 'ADEChallengeData2016.zip', URL, '<data_root>'):
        assert part in message
    assert '--cfg-options data_root=' in message
    assert 'wrong' not in message


def test_missing_annotations_are_explained(tmp_path):
    (tmp_path / 'images/training').mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'images/training/a.jpg'), np.zeros((4, 4, 3), np.uint8))
    message = error_of(tmp_path)
    assert f'{tmp_path}/annotations/training is not a folder' in message
    assert URL in message


@pytest.mark.parametrize('below', ['.', 'ADE20K_2021_17_01', 'ADEChallengeData2016'])
def test_full_release_is_recognised(tmp_path, below):
    (tmp_path / 'ADE20K_2021_17_01/images/ADE/training').mkdir(parents=True)
    message = error_of(tmp_path / below)
    assert re.search(
        rf'{tmp_path}/ADE20K_2021_17_01 belongs to the full ADE20K release.*wrong archive', message
    )


def test_full_release_is_recognised_by_its_masks(tmp_path):
    scene = tmp_path / 'images/training/a/abbey'
    scene.mkdir(parents=True)
    for name in ('ADE_train_1.jpg', 'ADE_train_1_seg.png'):
        cv2.imwrite(str(scene / name), np.zeros((4, 4, 3), np.uint8))
    message = error_of(tmp_path)
    assert 'ADE_train_1_seg.png belongs to the full ADE20K release' in message


def test_data_root_one_level_too_high_is_recognised(tmp_path):
    (tmp_path / 'ADEChallengeData2016').mkdir()
    assert f'{tmp_path}/ADEChallengeData2016 exists: set data_root to it' in error_of(tmp_path)
