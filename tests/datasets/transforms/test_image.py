"""LoadImageFromFile: every kind of file is read as BGR, or refused by name."""

import io
import os
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from dpt.datasets import LoadAnnotations, LoadImageFromFile
from dpt.datasets.bad_sample import BadSampleError
from dpt.datasets.transforms.loading import is_truncated
from dpt.registry import TRANSFORMS

PICTURE = Image.fromarray(
    np.add.outer(np.arange(0, 120, 5), np.arange(34))[..., None].repeat(3, 2).astype(np.uint8)  # 24x34
)


def encode(picture=PICTURE, kind='JPEG', **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def load(path, content, **options):
    path.write_bytes(content)
    return LoadImageFromFile(**options)({'img_path': str(path)})


def test_reads_as_opencv_does(tmp_path):
    assert TRANSFORMS.get('LoadImageFromFile') is LoadImageFromFile
    results = load(tmp_path / 'a.jpg', encode(quality=90))
    np.testing.assert_array_equal(results['img'], cv2.imread(str(tmp_path / 'a.jpg')))
    assert results['img_shape'] == results['ori_shape'] == (24, 34)
    assert load(tmp_path / 'a.jpg', encode(), to_float32=True)['img'].dtype == np.float32


def test_12_bit_images_are_told_once(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('dpt.datasets.transforms.loading.print_log', lambda line, *_: lines.append(line))
    monkeypatch.setattr('dpt.datasets.transforms.loading._warned_dark', False)
    dark = np.arange(24 * 34, dtype=np.uint16).reshape(24, 34) * 5
    load(tmp_path / 'bright.png', cv2.imencode('.png', dark * 16)[1].tobytes())
    assert lines == []
    for name in ('a.png', 'b.png'):
        load(tmp_path / name, cv2.imencode('.png', dark)[1].tobytes())
    (told,) = lines
    assert 'a.png has 16 bits per channel, but values of fewer bits' in told
    assert 'the upper 8 bits, which are read, are 0 to 15 of 255' in told


@pytest.mark.parametrize('mode', ['L', '1', 'P', 'RGB', 'RGBA', 'LA', 'I;16'])
def test_png_of_every_mode_becomes_bgr(tmp_path, mode):
    picture = PICTURE.convert('L' if mode == 'I;16' else mode)
    if mode == 'I;16':
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    image = load(tmp_path / 'a.jpg', encode(picture, 'PNG'))['img']
    assert (image.shape, image.dtype) == ((24, 34, 3), np.uint8)
    if mode not in ('1', 'P'):  # pillow dithers these
        np.testing.assert_array_equal(image, np.asarray(PICTURE))


@pytest.mark.parametrize('mode', ['L', 'CMYK'])
def test_grey_and_cmyk_jpegs_become_bgr(tmp_path, mode):
    image = load(tmp_path / 'a.jpg', encode(PICTURE.convert(mode), quality=95))['img']
    assert np.abs(image.astype(int) - np.asarray(PICTURE)).mean() < 3


def test_still_gif_is_read_and_animation_refused(tmp_path):
    assert load(tmp_path / 'a.jpg', encode(kind='GIF'))['img'].shape == (24, 34, 3)
    for kind in ('GIF', 'WEBP'):
        content = encode(kind=kind, save_all=True, append_images=[PICTURE.rotate(180)])
        with pytest.raises(BadSampleError, match=r'a\.jpg is an animation'):
            load(tmp_path / 'a.jpg', content)


@pytest.mark.parametrize('cut', [1, 2, 50, 300])
def test_truncated_jpeg_raises(tmp_path, cut):
    content = encode(quality=95)
    assert cut < len(content) - 300
    with pytest.raises(BadSampleError, match=r'a\.jpg is truncated'):
        load(tmp_path / 'a.jpg', content[:-cut])


def test_end_of_thumbnail_is_not_end_of_image():
    whole, thumbnail = encode(quality=95), encode(PICTURE.resize((4, 3)))
    with_thumbnail = whole[:2] + thumbnail + whole[2:]
    assert not is_truncated(with_thumbnail)
    assert is_truncated(with_thumbnail[:-2])
    assert not is_truncated(whole + b'trailing bytes of an editor')
    assert is_truncated(whole[:10])


@pytest.mark.parametrize(
    ('content', 'message'),
    [(b'', 'is empty: 0 bytes'), (b'<html>', 'not an image'), (encode(kind='PNG')[:-30], 'cannot be read')],
)
def test_file_that_is_no_image_is_named(tmp_path, content, message):
    with pytest.raises(BadSampleError, match=rf'^image {re.escape(str(tmp_path))}/a\.jpg .*{message}'):
        load(tmp_path / 'a.jpg', content)


def test_unreadable_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'^image .*gone\.jpg does not exist$'):
        LoadImageFromFile()({'img_path': str(tmp_path / 'gone.jpg')})
    for step, key in ((LoadImageFromFile(), 'img_path'), (LoadAnnotations(), 'seg_map_path')):
        with pytest.raises(BadSampleError, match=r'cannot be read: Is a directory'):
            step({key: str(tmp_path)})


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may read everything')
def test_file_without_permission_is_named(tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(encode())
    path.chmod(0)
    with pytest.raises(BadSampleError, match=r'a\.jpg cannot be read: Permission denied'):
        LoadImageFromFile()({'img_path': str(path)})


def turned(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return encode(exif=exif, quality=95)


def test_exif_orientation_turns_image_and_mask_must_fit(tmp_path):
    results = load(tmp_path / 'a.jpg', turned(6))
    assert results['img'].shape == (34, 24, 3)
    mask = tmp_path / 'a.png'
    cv2.imwrite(str(mask), np.zeros((34, 24), np.uint8))
    LoadAnnotations()({**results, 'seg_map_path': str(mask)})
    cv2.imwrite(str(mask), np.zeros((24, 34), np.uint8))  # drawn on the pixels as stored
    with pytest.raises(BadSampleError, match="EXIF orientation, set color_type='color_ignore_orientation'"):
        LoadAnnotations()({**results, 'seg_map_path': str(mask)})
    stored = load(tmp_path / 'a.jpg', turned(6), color_type='color_ignore_orientation')
    assert LoadAnnotations()({**stored, 'seg_map_path': str(mask)})['gt_seg_map'].shape == (24, 34)
