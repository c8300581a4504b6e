"""Data sets of images and depth: folders, split files, published ones, real samples, and bad input."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dpt.datasets import BaseDepthDataset, KITTIDataset, NYUDataset

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadDepthAnnotation')]
PACK = dict(type='PackSegInputs')


def write_image(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def write_pairs(root: Path, pairs: dict[str, str], depth: float = 2000) -> None:
    for image, file in pairs.items():
        write_image(root / image, np.full((6, 8, 3), 90, np.uint8))
        write_image(root / file, np.full((6, 8), depth, np.uint16))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    write_pairs(tmp_path, {f'images/{name}.jpg': f'depth/{name}.png' for name in ('a', 'b', 'c/d')})
    return tmp_path


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr('dpt.datasets.depth.print_log', lambda line, *_: lines.append(line))
    return lines


def read(root: Path, **arguments) -> BaseDepthDataset:
    prefix = dict(img_path='images', depth_map_path='depth')
    return BaseDepthDataset(**{**dict(data_root=str(root), data_prefix=prefix, pipeline=LOAD), **arguments})


def test_any_folders_without_classes_are_read(own: Path) -> None:
    dataset = read(own, depth_rescale_factor=0.001, pipeline=[*LOAD, PACK])
    assert len(dataset) == 3
    sample = dataset[0]['data_samples']
    assert sample.gt_depth_map.data.shape == (1, 6, 8)
    assert sample.gt_depth_map.data.unique().tolist() == [2.0]
    assert sample.depth_map_path == str(own / 'depth' / 'a.png')
    assert dataset.metainfo == dict(depth_rescale_factor=0.001)


@pytest.mark.parametrize(
    'lines', ['b\nc/d\n', 'b.jpg\nc/d.jpg', 'b.jpg b.png\n/c/d.jpg /c/d.png 518.8\na.jpg None 1']
)
def test_split_files_list_images_or_pairs(own: Path, lines: str) -> None:
    (own / 'train.txt').write_text(lines)
    found = [dataset['depth_map_path'] for dataset in read(own, ann_file='train.txt')]
    assert found == [str(own / 'depth' / name) for name in ('b.png', 'c/d.png')]


@pytest.mark.parametrize(
    ('lines', 'error', 'words'),
    [
        ('a.jpg a.png\nb.jpg', ValueError, r"train\.txt has the line 'b\.jpg', but others name an image and"),
        (
            'a.jpg a.png\nx.jpg b.png',
            FileNotFoundError,
            r'1 of 2 images named in .*train\.txt do not exist',
        ),
        ('a.jpg x.png', FileNotFoundError, r'1 of 1 depth files named in .*do not exist in .*depth: x\.png'),
    ],
)
def test_mistakes_in_split_files_name_the_line(own: Path, lines, error, words) -> None:
    (own / 'train.txt').write_text(lines)
    with pytest.raises(error, match=words):
        read(own, ann_file='train.txt')


@pytest.mark.parametrize('factor', [0, -1, float('nan'), float('inf'), '0.001', None])
def test_factor_must_be_a_positive_number(own: Path, factor) -> None:
    with pytest.raises(ValueError, match=r'depth_rescale_factor=.* must be a number above 0'):
        read(own, depth_rescale_factor=factor)


def test_missing_depth_is_named(own: Path) -> None:
    (own / 'depth' / 'b.png').unlink()
    words = r'1 of 3 images have no depth file in .*: b\.png; set depth_map_suffix if depth files have'
    with pytest.raises(FileNotFoundError, match=words):
        read(own)
    assert len(read(own, test_mode=True, data_prefix=dict(img_path='images'))) == 3
    with pytest.raises(
        ValueError, match=r"no data_prefix\['depth_map_path'\]: set it, or set test_mode=True"
    ):
        read(own, data_prefix=dict(img_path='images'))


def test_millimetres_as_metres_are_warned_of(own: Path, logged: list[str]) -> None:
    read(own, depth_rescale_factor=0.001)
    assert not logged
    read(own)
    assert 'have a median depth of 2000 m' in logged[0]
    assert 'set depth_rescale_factor=0.001 on the data set' in logged[0]


def test_bad_depth_is_skipped_as_bad_masks_are(own: Path) -> None:
    write_image(own / 'depth' / 'b.png', np.zeros((6, 8), np.uint16))
    with pytest.raises(ValueError, match=r'depth .*b\.png has no valid pixel'):
        read(own)[1]
    dataset = read(own, max_bad_samples=1)
    assert dataset[1]['depth_map_path'] != str(own / 'depth' / 'b.png')


def test_published_layouts_are_read(tmp_path: Path, logged: list[str]) -> None:
    pairs = {'kitchen_0028b/rgb_00045.jpg': 'kitchen_0028b/sync_depth_00045.png'}
    write_pairs(tmp_path / 'nyu', pairs)
    (tmp_path / 'nyu' / 'nyu_train.txt').write_text('/{} /{} 518.8579'.format(*pairs.popitem()))
    nyu = NYUDataset('nyu_train.txt', data_root=str(tmp_path / 'nyu'), pipeline=LOAD)
    assert nyu[0]['gt_depth_map'].max() == np.float32(2)
    assert 'has 1 pairs of image and depth, but the published one has 24231' in logged[0]

    image = '2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png'
    depth = '2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000069.png'
    write_pairs(tmp_path / 'kitti', {f'input/{image}': f'gt_depth/{depth}'})
    lines = f'{image} {depth} 721.5377\n{image} None 721.5377\n'
    (tmp_path / 'kitti' / 'kitti_eigen_test.txt').write_text(lines)
    kitti = KITTIDataset('kitti_eigen_test.txt', data_root=str(tmp_path / 'kitti'), pipeline=LOAD)
    assert len(kitti) == 1
    assert kitti[0]['gt_depth_map'].max() == 2000 / 256

    for kind, tool in ((NYUDataset, 'prepare_nyu'), (KITTIDataset, 'prepare_kitti')):
        with pytest.raises(FileNotFoundError, match=rf'not found: .*run python tools/{tool}\.py'):
            kind(data_root='absent')


@pytest.mark.parametrize(
    ('kind', 'folder', 'suffix', 'crop', 'size', 'share', 'farthest'),
    [
        (NYUDataset, 'nyu', '.jpg', 'NYUCrop', (427, 565), (0.6, 0.95), (3, 10)),
        (KITTIDataset, 'kitti', '.png', 'KBCrop', (352, 1216), (0.15, 0.25), (50, 90)),
    ],
)
def test_real_samples_are_read_and_cropped(
    depth_samples_root, kind, folder, suffix, crop, size, share, farthest
) -> None:
    prefix = dict(img_path='images', depth_map_path='depth')
    root = str(depth_samples_root / folder)
    pipeline = [*LOAD, dict(type=crop), PACK]
    dataset = kind(img_suffix=suffix, data_root=root, data_prefix=prefix, pipeline=pipeline)
    assert len(dataset) == 3
    # Depth that is loaded after the crop is cropped alike.
    late = kind(
        img_suffix=suffix,
        data_root=root,
        data_prefix=prefix,
        pipeline=[LOAD[0], dict(type=crop), dict(type='Resize', scale_factor=0.5), LOAD[1], PACK],
    )
    for item, other in zip(dataset, late, strict=True):
        depth = item['data_samples'].gt_depth_map.data
        assert tuple(item['inputs'].shape[-2:]) == tuple(depth.shape[-2:]) == size
        assert item['data_samples'].ori_shape == other['data_samples'].ori_shape == size
        assert share[0] < (depth > 0).float().mean() < share[1]
        assert farthest[0] < depth.max() < farthest[1]
        np.testing.assert_array_equal(depth, other['data_samples'].gt_depth_map.data)


def test_real_disparity_keeps_its_missing_pixels(depth_samples_root, tmp_path: Path) -> None:
    disparity = np.load(depth_samples_root / 'motorcycle' / 'motorcycle_disp.npz')['arr_0']
    (tmp_path / 'images').symlink_to(depth_samples_root / 'motorcycle')
    (tmp_path / 'depth').mkdir()
    depth = 994.978 * 0.193001 / (disparity + 31.086)
    np.save(tmp_path / 'depth' / 'motorcycle_left.npy', np.where(np.isfinite(disparity), depth, np.inf))
    (item,) = read(tmp_path, img_suffix='.png', depth_map_suffix='.npy')
    found = item['gt_depth_map']
    assert (found > 0).mean() == pytest.approx(0.927, abs=0.001)
    assert (found[found > 0].min(), found.max()) == pytest.approx((2.11, 5.02), abs=0.01)
