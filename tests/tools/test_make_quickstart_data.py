"""The synthetic data set: its layout is ADE20K's, its labels are complete, and it is the same each time."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

SPLITS = {'training': 120, 'validation': 30}


def run(repository: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(repository / 'tools' / 'make_quickstart_data.py'), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob('*')) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope='module')
def data(repository, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('quickstart') / 'data'
    result = run(repository, out)
    assert result.returncode == 0, result.stderr
    return out


def test_each_image_has_its_mask_under_the_same_name(data):
    for split, count in SPLITS.items():
        images = sorted(path.stem for path in (data / 'images' / split).iterdir())
        masks = sorted(path.stem for path in (data / 'annotations' / split).iterdir())
        assert len(images) == count
        assert images == masks
    assert not [path.name for path in data.parent.iterdir() if path != data], 'scratch files are left behind'


def test_files_are_colour_jpegs_and_single_channel_masks_of_equal_size(data):
    shapes = set()
    for path in (data / 'images').rglob('*.jpg'):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        mask_path = data / 'annotations' / path.parent.name / f'{path.stem}.png'
        mask = cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
        assert image.ndim == 3
        assert mask.ndim == 2
        assert mask.dtype == np.uint8
        assert mask.shape == image.shape[:2]
        with Image.open(path) as picture, Image.open(mask_path) as labels:
            assert (picture.format, picture.mode) == ('JPEG', 'RGB')
            assert (labels.format, labels.mode) == ('PNG', 'L')
            np.testing.assert_array_equal(np.asarray(labels), mask)
        shapes.add(mask.shape)
    assert len(shapes) > 10, 'images of one size would hide errors with shapes'


@pytest.mark.parametrize('split', SPLITS)
def test_labels_are_one_based_with_every_class_and_some_unlabelled_pixels(data, split):
    meta = json.loads((data / 'meta.json').read_text())
    assert meta['reduce_zero_label'] is True
    assert len(meta['classes']) == len(meta['palette']) == 6
    counts = np.zeros(256, int)
    images_with = np.zeros(256, int)
    for path in (data / 'annotations' / split).glob('*.png'):
        of_image = np.bincount(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ravel(), minlength=256)
        counts += of_image
        images_with += of_image > 0
    assert set(np.flatnonzero(counts)) == set(range(len(meta['classes']) + 1))
    assert images_with[1:7].min() >= SPLITS[split] // 4, images_with[:7]
    assert 0.005 < counts[0] / counts.sum() < 0.1


def test_same_arguments_give_the_same_files_and_another_seed_does_not(repository, tmp_path):
    size = ('--train', 3, '--val', 2, '--size', 90, 110)
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        assert run(repository, tmp_path / name, *size, '--seed', seed).returncode == 0
    first, again, other = (digests(tmp_path / name) for name in 'abc')
    assert first == again
    assert not set(first.values()) & set(other.values())
    splits = [digests(tmp_path / 'a' / 'images' / split) for split in SPLITS]
    assert not set(splits[0].values()) & set(splits[1].values()), 'validation repeats training images'


def test_a_complete_set_is_left_alone_and_an_incomplete_one_made_anew(repository, tmp_path):
    out = tmp_path / 'data'
    small = (out, '--train', 2, '--val', 1)
    assert run(repository, *small).returncode == 0
    whole = digests(out)
    written = (out / 'meta.json').stat().st_mtime_ns
    assert 'already there' in run(repository, *small).stdout
    assert (out / 'meta.json').stat().st_mtime_ns == written
    next((out / 'images' / 'training').iterdir()).unlink()
    assert run(repository, *small).returncode == 0
    assert digests(out) == whole
    assert run(repository, out, '--train', 4, '--val', 1).returncode == 0
    assert len(list((out / 'images' / 'training').iterdir())) == 4


def test_a_folder_of_somebody_else_is_not_touched(repository, tmp_path):
    (tmp_path / 'photo.jpg').write_bytes(b'mine')
    result = run(repository, tmp_path, '--train', 1, '--val', 1)
    assert result.returncode != 0
    assert 'not empty' in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['photo.jpg']
