"""LoadAnnotations: labels as they are on disk, relabelled once, errors that name the file."""

import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from dpt.datasets import LoadAnnotations, LoadImageFromFile


def write(path, labels):
    assert cv2.imwrite(str(path), labels)
    return {'seg_map_path': str(path), 'seg_fields': []}


def random_labels(high, shape=(13, 17), dtype=np.uint8):
    return np.random.default_rng(high).integers(0, high, shape).astype(dtype)


def relabel_oracle(disk, reduce_zero_label, label_map):
    """Pixel by pixel, in Python."""
    result = np.empty(disk.shape, np.int64)
    for position, value in np.ndenumerate(disk):
        label = int(value)
        if reduce_zero_label:
            label = 255 if label in (0, 255) else label - 1
        result[position] = label_map.get(label, label) if label_map else label
    return result


@pytest.mark.parametrize('label_map', [None, {0: 1, 1: 0}, {0: 2, 1: 255, 2: 0, 3: 1}, {4: 3, 3: 2, 2: 4}])
@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize(('high', 'dtype'), [(6, np.uint8), (256, np.uint8), (700, np.uint16)])
def test_relabelling_equals_rule_pixel_by_pixel(tmp_path, label_map, reduce_zero_label, high, dtype):
    disk = random_labels(high, dtype=dtype)
    disk[0, :3] = 0, 1, 255
    sample = write(tmp_path / 'm.png', disk)
    sample.update(label_map=label_map, reduce_zero_label=reduce_zero_label)
    labels = LoadAnnotations()(sample)['gt_seg_map']
    np.testing.assert_array_equal(labels, relabel_oracle(disk, reduce_zero_label, label_map))
    assert labels.dtype == (np.uint8 if high <= 256 else np.int32)
    assert labels.flags.c_contiguous


def test_zero_label_is_reduced_without_255_on_disk(tmp_path):
    disk = random_labels(151)
    disk[0, :2] = 0, 254
    sample = dict(write(tmp_path / 'm.png', disk), reduce_zero_label=True)
    labels = LoadAnnotations()(sample)['gt_seg_map']
    np.testing.assert_array_equal(labels, relabel_oracle(disk, True, None))
    assert labels.dtype == np.uint8


def test_16_bit_mask_of_small_labels_becomes_uint8(tmp_path):
    disk = random_labels(150, dtype=np.uint16)
    labels = LoadAnnotations()(write(tmp_path / 'm.png', disk))['gt_seg_map']
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, disk)


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_palette_pixels_are_read_as_indices(tmp_path, backend, bits):
    disk = random_labels(min(2**bits, 11))
    image = Image.new('P', disk.shape[::-1])
    image.putdata(disk.ravel().tolist())
    image.putpalette([(7 * i + 31) % 256 for i in range(768)])
    image.save(tmp_path / 'm.png', bits=bits)
    assert cv2.imread(str(tmp_path / 'm.png'), cv2.IMREAD_UNCHANGED).ndim == 3  # what makes this a trap
    sample = {'seg_map_path': str(tmp_path / 'm.png')}
    labels = LoadAnnotations(imdecode_backend=backend)(sample)['gt_seg_map']
    np.testing.assert_array_equal(labels, disk)


def grey_png(rows: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits a pixel; the width must fill whole bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

    height, width = rows.shape
    weights = 2 ** (bits * np.arange(8 // bits)[::-1])
    packed = (rows.reshape(height, -1, 8 // bits) * weights).sum(-1).astype(np.uint8)
    body = b''.join(b'\0' + row.tobytes() for row in packed)
    header = struct.pack('>IIBBBBB', width, height, bits, 0, 0, 0, 0)
    parts = chunk(b'IHDR', header), chunk(b'IDAT', zlib.compress(body)), chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_small_bit_depths_are_not_stretched(tmp_path, bits):
    disk = random_labels(2**bits, shape=(5, 16))
    (tmp_path / 'm.png').write_bytes(grey_png(disk, bits))
    labels = LoadAnnotations()({'seg_map_path': str(tmp_path / 'm.png')})['gt_seg_map']
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, disk)


@pytest.mark.parametrize('shape', [(1, 9), (9, 1), (1, 1)])
def test_one_pixel_high_or_wide_masks_keep_their_shape(tmp_path, shape):
    assert LoadAnnotations()(write(tmp_path / 'm.png', random_labels(5, shape)))['gt_seg_map'].shape == shape


def test_seg_fields_gets_the_name_once_in_a_copy(tmp_path):
    sample = write(tmp_path / 'm.png', random_labels(4))
    fields = sample['seg_fields']
    load = LoadAnnotations()
    assert load(load(sample))['seg_fields'] == ['gt_seg_map']
    assert fields == []
    del sample['seg_fields']
    assert load(sample)['seg_fields'] == ['gt_seg_map']


# --- who owns reduce_zero_label


@pytest.mark.parametrize('decided', [True, False])
@pytest.mark.parametrize('asked', [True, False, None])
def test_data_set_decides_about_label_zero(tmp_path, decided, asked):
    disk = random_labels(5)
    sample = {**write(tmp_path / 'm.png', disk), 'reduce_zero_label': decided}
    load = LoadAnnotations(reduce_zero_label=asked)
    if asked not in (None, decided):
        with pytest.raises(ValueError, match=rf'reduce_zero_label={asked}\) contradicts.*={decided}'):
            load(sample)
        return
    np.testing.assert_array_equal(load(sample)['gt_seg_map'], relabel_oracle(disk, decided, None))


def test_argument_applies_to_samples_without_data_set(tmp_path):
    disk = random_labels(5)
    labels = LoadAnnotations(reduce_zero_label=True)(write(tmp_path / 'm.png', disk))['gt_seg_map']
    np.testing.assert_array_equal(labels, relabel_oracle(disk, True, None))


# --- errors name the file


def test_colour_mask_raises(tmp_path):
    sample = write(tmp_path / 'm.png', np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=re.escape(f'{tmp_path}/m.png has shape (4, 5, 3), colours')):
        LoadAnnotations()(sample)


def test_missing_mask_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f'{tmp_path}/none.png does not exist')):
        LoadAnnotations()({'seg_map_path': str(tmp_path / 'none.png')})


@pytest.mark.parametrize('keep', [1, 10, 30, 60])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_damaged_mask_is_named(tmp_path, keep, backend):
    sample = write(tmp_path / 'm.png', random_labels(200))
    content = (tmp_path / 'm.png').read_bytes()
    (tmp_path / 'm.png').write_bytes(content[:keep])
    with pytest.raises(ValueError, match=re.escape(f'mask {tmp_path}/m.png cannot be read')):
        LoadAnnotations(imdecode_backend=backend)(sample)


def test_mask_of_another_size_names_files_and_sizes(tmp_path):
    sample = {**write(tmp_path / 'm.png', random_labels(5, (4, 6))), 'img_path': 'i.jpg', 'ori_shape': (6, 4)}
    expected = re.escape(f'image i.jpg is 6x4 (height x width) but its mask {tmp_path}/m.png is 4x6')
    with pytest.raises(ValueError, match=expected):
        LoadAnnotations()(sample)


def test_fractional_labels_raise(tmp_path):
    sample = write(tmp_path / 'm.tiff', np.full((4, 5), 0.5, np.float32))
    with pytest.raises(ValueError, match=r'm\.tiff contains float32 values'):
        LoadAnnotations()(sample)


def test_negative_labels_raise(tmp_path):
    Image.fromarray(np.full((4, 5), -1, np.int32)).save(tmp_path / 'm.tiff')
    with pytest.raises(ValueError, match=r'm\.tiff contains negative labels'):
        LoadAnnotations()({'seg_map_path': str(tmp_path / 'm.tiff')})


def test_sample_without_mask_path_raises():
    with pytest.raises(ValueError, match=r'i\.jpg has no seg_map_path'):
        LoadAnnotations()({'img_path': 'i.jpg'})


def test_unknown_backend_raises():
    with pytest.raises(ValueError, match="imdecode_backend must be .* not 'turbo'"):
        LoadAnnotations(imdecode_backend='turbo')
    with pytest.raises(ValueError, match="color_type must be one of .* not 'RGB'"):
        LoadImageFromFile(color_type='RGB')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'is empty: 0 bytes'),
        (cv2.imencode('.jpg', np.zeros((5, 5), np.uint8))[1].tobytes(), 'is a JPEG, which does not preserve'),
        (cv2.imencode('.png', np.zeros((50, 50), np.uint8))[1].tobytes()[:-20], 'cannot be read'),
    ],
)
def test_unusable_masks_are_named(tmp_path, content, message):
    (tmp_path / 'm.png').write_bytes(content)
    with pytest.raises(ValueError, match=f'mask .*m.png {message}'):
        LoadAnnotations()({'seg_map_path': str(tmp_path / 'm.png')})
