"""The synthetic data set has ADE20K's layout, complete labels, and the same files each time."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

SPLITS = {'training': 120, 'validation': 30}


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob('*')) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope='module')
def main(tool_main: Callable) -> Callable:
    return tool_main('tools/make_quickstart_data.py')


@pytest.fixture(scope='module')
def data(main: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('quickstart') / 'data'
    assert main(out) == 0
    return out


def test_images_and_masks_correspond(data: Path) -> None:
    shapes = set()
    for split, count in SPLITS.items():
        images = sorted((data / 'images' / split).iterdir())
        masks = sorted((data / 'annotations' / split).iterdir())
        assert len(images) == count
        assert [path.stem for path in images] == [path.stem for path in masks]
        for image_path, mask_path in zip(images, masks, strict=True):
            image, mask = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (image_path, mask_path))
            assert (image.ndim, mask.ndim, mask.dtype) == (3, 2, np.uint8)
            assert mask.shape == image.shape[:2]
            shapes.add(mask.shape)
    assert len(shapes) > 10  # images of one size would hide errors with shapes
    assert list(data.parent.iterdir()) == [data]


@pytest.mark.parametrize('split', SPLITS)
def test_every_class_and_some_unlabelled_pixels_occur(data: Path, split: str) -> None:
    meta = json.loads((data / 'meta.json').read_text())
    assert meta['reduce_zero_label'] is True
    assert len(meta['classes']) == len(meta['palette']) == 6
    masks = [cv2.imread(str(path), -1) for path in (data / 'annotations' / split).glob('*.png')]
    counts = np.stack([np.bincount(mask.ravel(), minlength=256) for mask in masks])
    assert set(np.flatnonzero(counts.sum(axis=0))) == set(range(7))
    assert (counts > 0).sum(axis=0)[1:7].min() >= SPLITS[split] // 4
    assert 0.005 < counts[:, 0].sum() / counts.sum() < 0.1


def test_files_depend_only_on_the_arguments(main: Callable, tmp_path: Path) -> None:
    size = ('--train', 3, '--val', 2, '--size', 90, 110)
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        assert main(tmp_path / name, *size, '--seed', seed) == 0
    first, again, other = (digests(tmp_path / name) for name in 'abc')
    assert first == again
    assert not set(first.values()) & set(other.values())
    splits = [digests(tmp_path / 'a' / 'images' / split) for split in SPLITS]
    assert not set(splits[0].values()) & set(splits[1].values())


def test_only_incomplete_or_different_data_are_replaced(main: Callable, tmp_path: Path, capsys) -> None:
    out = tmp_path / 'data'
    small = (out, '--train', 2, '--val', 1)
    assert main(*small) == 0
    whole, written = digests(out), (out / 'meta.json').stat().st_mtime_ns
    assert main(*small) == 0
    assert 'already there' in capsys.readouterr().out
    assert (out / 'meta.json').stat().st_mtime_ns == written
    next((out / 'images' / 'training').iterdir()).unlink()
    assert main(*small) == 0
    assert digests(out) == whole
    assert main(out, '--train', 4, '--val', 1) == 0
    assert len(list((out / 'images' / 'training').iterdir())) == 4


# SHA-256 of the pixels of all masks of the default data set.
SEGMENTATION = 'e7e8e5dbc294739d700c29603687a80415bc03f244f3900adf198336ba602ea1'


def test_depth_is_extra_and_leaves_the_default_files(main: Callable, data: Path, tmp_path: Path) -> None:
    masks = sorted((data / 'annotations').rglob('*.png'))
    digest = hashlib.sha256(b''.join(cv2.imread(str(path), -1).tobytes() for path in masks)).hexdigest()
    assert digest == SEGMENTATION
    assert not (data / 'depth').exists()
    assert main(tmp_path / 'data', '--train', 20, '--val', 1, '--depth') == 0
    assert json.loads((tmp_path / 'data/meta.json').read_text())['depth_rescale_factor'] == 1 / 256
    for path in sorted((tmp_path / 'data/depth').rglob('*.png')):
        depth = cv2.imread(str(path), -1)
        label = cv2.imread(str(path).replace('/depth/', '/annotations/'), -1)
        sky = np.isin(label, (1, 5))
        assert depth.dtype == np.uint16
        assert (depth[sky] == 0).all()
        measured = depth[(label > 0) & ~sky] / 256
        assert 2 < measured.min() < 5
        assert 15 < measured.max() <= 20
        ground = np.where(label == 2, depth, 0)  # nearer towards the bottom
        assert (np.diff(ground[-10:].max(axis=1).astype(int)) <= 0).all()
