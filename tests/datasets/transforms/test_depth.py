"""Depth is read from every format, moves with the image, and is refused in one line if it is bad."""

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose

from dpt.datasets.bad_sample import BadSampleError
from dpt.registry import TRANSFORMS

HEIGHT, WIDTH = 500, 1300
RESIZES = [
    dict(type='Resize', scale=(640, 480)),
    dict(type='Resize', scale=(640, 480), keep_ratio=True, backend='pillow'),
    dict(type='RandomResize', scale=(640, 480), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomChoiceResize', scales=[300, 400], resize_type='ResizeShortestEdge', max_size=900),
    dict(type='RandomResizeByRatio', ratio_range=(0.5, 2.0)),
    dict(type='ResizeShortestEdge', scale=300, max_size=900),
    dict(type='ResizeToMultiple', size_divisor=32),
    dict(type='ResizeToBound', scale=518, size_divisor=14),
]
OTHERS = [
    *(dict(type='RandomFlip', prob=1.0, direction=way) for way in ('horizontal', 'vertical', 'diagonal')),
    dict(type='RandomApply', transforms=[dict(type='RandomFlip', prob=1.0)], prob=1.0),
    dict(type='RandomCrop', crop_size=(300, 700)),
    dict(type='RandomRotate', prob=1.0, degree=(10, 20)),
    dict(type='RandomRotate', prob=1.0, degree=(10, 20), auto_bound=True),
    dict(type='Pad', size=(1400, 600)),
    dict(type='Pad', size=(1400, 600), padding_mode='edge'),
    dict(type='CenterCrop', crop_size=(700, 300)),
    dict(type='CenterCrop', crop_size=(700, 600), auto_pad=True),
    dict(type='RandomCutOut', prob=1.0, n_holes=5, cutout_ratio=(0.2, 0.2), seg_fill_in=255),
    dict(type='KBCrop'),
    dict(type='NYUCrop'),
]
ALBU = [dict(type='Rotate', limit=(10, 20), p=1.0), dict(type='HorizontalFlip', p=1.0)]


def sample() -> dict:
    """A white rectangle at 2 m before a black wall at 1 m."""
    depth = np.ones((HEIGHT, WIDTH), np.float32)
    depth[120:450, 300:900] = 2
    image = np.repeat(np.uint8(255 * (depth[..., None] - 1)), 3, axis=2)
    shape = image.shape[:2]
    return dict(img=image, gt_depth_map=depth, seg_fields=['gt_depth_map'], ori_shape=shape, img_shape=shape)


def moved(*steps: dict) -> dict:
    np.random.seed(1)
    return Compose([TRANSFORMS.build(step) for step in steps])(sample())


def assert_fits(results: dict) -> None:
    image, depth = results['img'], results['gt_depth_map']
    assert depth.dtype == np.float32
    assert depth.shape == image.shape[:2] == results['img_shape']
    assert set(np.unique(depth)) <= {0, 1, 2}
    known = depth > 0
    assert known.mean() > 0.3
    assert ((image[..., 0] > 127) == (depth == 2))[known].mean() > 0.985


@pytest.mark.parametrize('step', [*RESIZES, *OTHERS], ids=lambda step: step['type'])
def test_every_transform_moves_depth_with_the_image(step: dict) -> None:
    results = moved(step)
    assert_fits(results)
    assert results['img'].shape != (HEIGHT, WIDTH, 3) or not np.array_equal(
        results['gt_depth_map'], sample()['gt_depth_map']
    )


@pytest.mark.parametrize('keymap', [None, dict(img='image', gt_depth_map='mask')])
def test_albumentations_move_depth_and_create_none(keymap: dict | None) -> None:
    pytest.importorskip('albumentations')
    results = moved(dict(type='Albu', transforms=ALBU, keymap=keymap))
    assert_fits(results)
    assert (results['gt_depth_map'] == 0).any()


def test_fused_steps_move_depth() -> None:
    from dpt.datasets.transforms.geometry import ResizeCropFlip, fuse

    steps = [RESIZES[2], OTHERS[4], OTHERS[0]]
    (fused,) = fuse([TRANSFORMS.build(step) for step in steps])
    assert isinstance(fused, ResizeCropFlip)
    np.random.seed(1)
    results = fused(sample())
    assert_fits(results)
    np.testing.assert_array_equal(results['gt_depth_map'], moved(*steps)['gt_depth_map'])


def test_depth_scales_only_where_the_config_says_so() -> None:
    double = dict(type='Resize', scale_factor=2.0)
    assert moved(double)['gt_depth_map'].max() == 2
    assert moved(double, dict(type='ScaleDepth'))['gt_depth_map'].max() == 1
    with pytest.raises(ValueError, match='keep_ratio=True'):
        moved(RESIZES[0], dict(type='ScaleDepth'))
    with pytest.raises(ValueError, match='after LoadDepthAnnotation and a resizing'):
        moved(dict(type='ScaleDepth'))


@pytest.mark.parametrize(
    ('method', 'divisor', 'scale', 'size'),
    # Sizes by the class Resize of MiDaS and Depth Anything, for an image of 500x1300.
    [
        ('lower_bound', 14, 518, (518, 1344)),
        ('upper_bound', 32, 384, (160, 384)),
        ('minimal', 32, 384, (384, 992)),
        ('lower_bound', 32, (640, 480), (480, 1248)),
    ],
)
def test_sides_are_multiples_within_the_bound(method, divisor, scale, size) -> None:
    step = dict(type='ResizeToBound', scale=scale, method=method, size_divisor=divisor)
    assert moved(step)['img_shape'] == size


def test_crops_replace_the_original_image() -> None:
    results = moved(dict(type='KBCrop'))
    assert results['ori_shape'] == (352, 1216)
    assert (results['crop_box'], results['full_shape']) == ((148, 500, 42, 1258), (500, 1300))
    with pytest.raises(ValueError, match='put NYUCrop before the transforms that move the image'):
        moved(OTHERS[0], dict(type='NYUCrop'))
    with pytest.raises(BadSampleError, match=r'is 500x1300 .*too small for KBCrop, which needs 600x1216'):
        moved(dict(type='KBCrop', height=600))
    np.random.seed(0)
    small = Compose([TRANSFORMS.build(dict(type='NYUCrop'))])
    image = np.zeros((480, 640, 3), np.uint8)
    assert small(dict(img=image, ori_shape=(480, 640)))['crop_box'] == (45, 472, 43, 608)


def test_colours_change_by_the_published_formula() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    step = TRANSFORMS.build(dict(type='ColorAug', prob=1.0, brightness_range=(0.75, 1.25)))
    np.random.seed(3)
    result = step(dict(img=image))['img']
    np.random.seed(3)
    np.random.rand()
    gamma, brightness = np.random.uniform(0.9, 1.1), np.random.uniform(0.75, 1.25)
    expected = np.clip(image**gamma * brightness * np.random.uniform(0.9, 1.1, 3), 0, 255)
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 0.51


def write(path, values: np.ndarray):
    if path.suffix == '.npy':
        np.save(path, values)
    elif path.suffix == '.npz':
        np.savez(path, values)
    else:
        if not cv2.haveImageWriter(str(path)):
            pytest.skip(f'this OpenCV does not write {path.suffix}')
        assert cv2.imwrite(str(path), values)
    return path


def load(path, image_size=(4, 6), **arguments) -> np.ndarray:
    step = TRANSFORMS.build(dict(type='LoadDepthAnnotation', **arguments))
    return step(dict(img_path='a.jpg', depth_map_path=str(path), ori_shape=image_size))['gt_depth_map']


VALUES = np.arange(24).reshape(4, 6) * 100


@pytest.mark.parametrize(
    ('name', 'dtype'),
    [
        ('a.png', np.uint16),
        ('a.tiff', np.uint16),
        ('a.tiff', np.float32),
        ('a.exr', np.float32),
        ('a.npy', np.float64),
        ('a.npy', np.int32),
        ('a.npz', np.float16),
    ],
)
def test_depth_is_read_from_every_format(tmp_path, monkeypatch, name: str, dtype) -> None:
    monkeypatch.setenv('OPENCV_IO_ENABLE_OPENEXR', '1')
    path = write(tmp_path / name, VALUES.astype(dtype))
    found = load(path, depth_rescale_factor=0.001, invalid_value=1500)
    assert found.dtype == np.float32
    expected = np.where(VALUES == 1500, 0, VALUES / 1000)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_numbers_that_are_not_finite_mean_no_measurement(tmp_path) -> None:
    values = np.where(VALUES > 1500, np.inf, np.where(VALUES == 300, np.nan, VALUES))
    found = load(write(tmp_path / 'a.npy', values[None]))
    np.testing.assert_array_equal(found, np.where((VALUES > 1500) | (VALUES == 300), 0, VALUES))


@pytest.mark.parametrize(
    ('name', 'values', 'words'),
    [
        ('a.npy', VALUES - 100.0, r'has negative numbers, such as -100: set invalid_value=-100'),
        ('a.png', np.uint16(VALUES * 0), r'has no valid pixel: all are 0'),
        ('a.npy', VALUES * np.nan, r'has no valid pixel'),
        ('a.png', np.uint8(VALUES[..., None] + [0, 1, 2]), r'has shape \(4, 6, 3\): expected one number'),
        ('a.jpg', np.uint8(VALUES), r'is a JPEG, which does not preserve depth'),
        ('a.npy', np.array(['x'] * 24).reshape(4, 6), r'contains <U1 values: expected numbers'),
        ('a.npy', VALUES > 1500, r'contains bool values: expected numbers'),
        ('a.png', np.ones((6, 4), np.uint16), r'is 4x6 .*but its depth .*is 6x4: both must have the same'),
    ],
)
def test_bad_depth_is_refused_in_a_line_with_the_file(tmp_path, name, values, words) -> None:
    path = write(tmp_path / name, values)
    with pytest.raises(BadSampleError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    'content', [b'', b'noise', b'\x93NUMPY\x01\x00', b'PK\x03\x04', b'\x89PNG\r\n\x1a\n']
)
def test_damaged_depth_is_refused(tmp_path, content: bytes) -> None:
    path = tmp_path / 'a.png'
    path.write_bytes(content)
    with pytest.raises(BadSampleError, match=f'depth {path} (is empty|cannot be read)'):
        load(path)
    with pytest.raises(FileNotFoundError, match=r'depth .*b\.png does not exist'):
        load(tmp_path / 'b.png')


def test_archives_name_the_array_of_depth(tmp_path) -> None:
    np.savez(tmp_path / 'a.npz', depth=VALUES, other=VALUES[:2])
    np.testing.assert_array_equal(load(tmp_path / 'a.npz'), VALUES)
    np.savez(tmp_path / 'b.npz', x=VALUES, y=VALUES)
    with pytest.raises(BadSampleError, match=r"contains the arrays \['x', 'y'\]: expected one"):
        load(tmp_path / 'b.npz')


def test_loader_agrees_with_the_data_set(tmp_path) -> None:
    path = write(tmp_path / 'a.npy', VALUES)
    step = TRANSFORMS.build(dict(type='LoadDepthAnnotation', depth_rescale_factor=0.1))
    with pytest.raises(ValueError, match=r'depth_rescale_factor=0\.1\) contradicts the data set, which has'):
        step(dict(depth_map_path=str(path), depth_rescale_factor=0.001, invalid_value=None))
    with pytest.raises(ValueError, match=r'has no depth_map_path: set data_prefix'):
        step(dict(img_path='a.jpg'))
