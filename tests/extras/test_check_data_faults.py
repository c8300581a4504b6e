"""Faults of every kind are found in a data set."""

import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from dpt.extras.check_data import as_dict, check_dataset, judge_overlap, render

PIPELINE = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}]


def check(root, workers=0, name='train_dataloader', **options):
    config = {
        'type': 'BaseSegDataset',
        'data_root': str(root),
        'data_prefix': {'img_path': 'images', 'seg_map_path': 'annotations'},
        'metainfo': {'classes': tuple('vwxyz')},
        'pipeline': PIPELINE,
        **options,
    }
    return check_dataset(config, name, workers)


def jpeg(root, name, picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, options.pop('format', 'JPEG'), **options)
    (root / f'images/{name}.jpg').write_bytes(buffer.getvalue())


def mask(root, name, labels):
    assert cv2.imwrite(str(root / f'annotations/{name}.png'), labels)


GREY = Image.fromarray(np.zeros((21, 34), np.uint8))
LABELS = np.arange(21 * 34).reshape(21, 34) % 5


FAULTS = {
    'image truncated': lambda root: os.truncate(root / 'images/b.jpg', 1000),
    'image empty': lambda root: (root / 'images/b.jpg').write_bytes(b''),
    'image damaged': lambda root: (root / 'images/b.jpg').write_bytes(b'<html>'),
    'image animated': lambda root: jpeg(
        root, 'b', GREY, format='GIF', save_all=True, append_images=[GREY.point(lambda value: 255)]
    ),
    'mask missing': lambda root: (root / 'annotations/b.png').unlink(),
    'mask empty': lambda root: (root / 'annotations/b.png').write_bytes(b''),
    'mask damaged': lambda root: (root / 'annotations/b.png').write_bytes(b'\x89PNG\r\n\x1a\n'),
    'mask has several channels': lambda root: mask(root, 'b', np.zeros((21, 34, 3), np.uint8)),
    'mask is a JPEG': lambda root: os.replace(root / 'images/c.jpg', root / 'annotations/b.png'),
    'sizes differ': lambda root: mask(root, 'b', np.zeros((21, 33), np.uint8)),
    'label outside the classes': lambda root: mask(root, 'b', np.full((21, 34), 5, np.uint8)),
    'broken link': lambda root: (root / 'images/d.jpg').symlink_to(root / 'gone.jpg'),
}


@pytest.mark.parametrize('kind', FAULTS)
def test_each_fault_is_found_by_kind_and_file(make_root, kind):
    root = make_root('a', 'b', 'c')
    FAULTS[kind](root)
    if kind == 'mask is a JPEG':
        (root / 'annotations/c.png').unlink()
    found = check(root, name='val_dataloader').faults
    found.pop('reduce_zero_label', None)  # which label 5 of 5 classes gives reason to suspect
    assert list(found) == [kind]
    (message,) = found[kind]
    assert f'/{"d" if kind == "broken link" else "b"}.' in message


def test_workers_find_the_same_in_a_sound_data_set(make_root):
    root = make_root(*'abcde', 'sub/f')
    one, two = check(root), check(root, workers=2)
    assert (one.faults, one.notes) == ({}, {})
    assert (one.sizes, one.pixels, one.images) == (two.sizes, two.pixels, two.images)
    assert set(one.sizes.values()) == {(21, 34)}
    assert one.modes == {'JPEG RGB': 6}
    disk = [cv2.imread(str(path), -1) for path in (root / 'annotations').rglob('*.png')]
    assert one.pixels == {label: sum(int((m == label).sum()) for m in disk) for label in range(5)}


@pytest.mark.parametrize('mode', ['L', 'CMYK', 'RGBA', '16-bit'])
def test_image_modes_are_counted(make_root, mode):
    root = make_root('a', 'b')
    if mode == '16-bit':
        jpeg(root, 'b', Image.fromarray(np.full((21, 34), 60000, np.uint16)), format='PNG')
    else:
        jpeg(root, 'b', GREY.convert(mode), format='PNG' if mode == 'RGBA' else 'JPEG')
    found = check(root)
    assert found.faults == {}
    assert sum(found.modes.values()) == 2
    assert len(found.modes) == 2


def test_exif_orientation_is_a_note(make_root):
    root, tags = make_root('a', 'b'), Image.Exif()
    tags[274] = 6
    jpeg(root, 'b', GREY, exif=tags)
    found = check(root)
    assert list(found.notes) == ['EXIF orientation']
    assert list(found.faults) == ['sizes differ']
    mask(root, 'b', np.zeros((34, 21), np.uint8))
    assert check(root).faults == {}


def test_files_too_large_for_pillow_are_faults(make_root, monkeypatch):
    root = make_root('a', 'b', 'c')
    monkeypatch.setattr('PIL.Image.MAX_IMAGE_PIXELS', 800)
    Image.new('P', (60, 60)).save(root / 'annotations/a.png')
    jpeg(root, 'b', Image.new('L', (60, 60)))
    mask(root, 'b', np.zeros((60, 60), np.uint8))
    found = check(root, name='val_dataloader')
    assert 'a.png cannot be read: Image size (3600 pixels)' in found.faults['mask damaged'][0]
    assert list(found.faults) == ['mask damaged']  # OpenCV, which training uses, reads the image of b
    assert len(found.sizes) == 3


@pytest.mark.parametrize('suffix', ['png', 'tif', 'pgm'])
def test_12_bit_images_in_16_bits_are_a_fault(make_root, suffix):
    root = make_root('a', 'b')
    for name in 'ab':
        (root / f'images/{name}.jpg').unlink()
        picture = (np.arange(21 * 34).reshape(21, 34) * 5).astype(np.uint16)
        assert cv2.imwrite(str(root / f'images/{name}.{suffix}'), picture)
    found = check(root, img_suffix=f'.{suffix}')
    (why,) = found.faults['16-bit images too dark']
    assert '16 bits per channel' in why
    assert 'are 0 to 13 of 255' in why
    assert '(16 bits)' in render(found)
    for name in 'ab':
        assert cv2.imwrite(str(root / f'images/{name}.{suffix}'), picture * 16)
    assert check(root, img_suffix=f'.{suffix}').faults == {}


def test_palettes_that_differ_are_a_fault(make_root):
    root = make_root('a', 'b')
    black, red, green = (0, 0, 0), (255, 0, 0), (0, 255, 0)
    for name, palette in (('a', (black, red, green)), ('b', (black, green, red))):
        picture = Image.fromarray((LABELS % 3).astype(np.uint8), 'P')
        picture.putpalette([*sum(palette, ()), *[7] * 759])
        picture.save(root / f'annotations/{name}.png')
    options = {'metainfo': {'classes': tuple('xyz')}}
    (why,) = check(root, **options).faults['palettes differ']
    assert 'index 1 is the colour 255,0,0' in why
    assert '0,255,0 in' in why
    for name in 'ab':  # unused entries may differ
        picture = Image.fromarray((LABELS % 3).astype(np.uint8), 'P')
        picture.putpalette([*black, *red, *green, *[ord(name)] * 759])
        picture.save(root / f'annotations/{name}.png')
    assert check(root, **options).faults == {}


def test_unlabelled_masks_are_notes_or_by_config_faults(make_root):
    root = make_root('a', 'b')
    mask(root, 'b', np.full((21, 34), 255, np.uint8))
    assert 'b.png' in check(root).notes['no labelled pixel'][0]
    assert 'b.png' in check(root, allow_unlabelled=False).faults['no labelled pixel'][0]


def test_unused_files_and_repeated_names_are_noted(make_root):
    root = make_root('a', 'b', 'sub/a')
    os.replace(root / 'images/b.jpg', root / 'images/b.JPG')
    notes = check(root).notes
    assert 'images/b.JPG is not used' in notes['unused image'][0]
    assert 'annotations/b.png belongs to no image' in notes['mask without image'][0]
    assert notes['same name'] == ['2 images in different folders are named a']


def test_images_listed_twice_or_also_evaluated_are_faults(make_root):
    root = make_root('a', 'b')
    (root / 'train.txt').write_text('a\nb\na\n')
    (root / 'val.txt').write_text('b\n')
    training = check(root, ann_file='train.txt')
    validation = check(root, ann_file='val.txt', name='val_dataloader')
    assert 'a.jpg is listed 2 times' in training.faults['listed twice'][0]
    judge_overlap(training, validation)
    path = root.resolve() / 'images/b.jpg'
    assert validation.faults['also in the training data'] == [f'{path} is also in train_dataloader']


@pytest.mark.parametrize('missing', ['images', 'annotations'])
def test_missing_folders_are_faults(make_root, missing):
    root = make_root('a')
    (root / missing).rename(root / 'elsewhere')
    found = check(root)
    assert f'folder {root}/{missing} does not exist' in found.faults['data set'][0]
    assert 'FAULT: data set: 1' in render(found)


def test_a_test_set_without_masks_needs_none(make_root):
    root = make_root('a')
    (root / 'annotations/a.png').unlink()
    assert check(root, test_mode=True, name='test_dataloader').faults == {}


def test_absent_classes_are_faults_in_training_only(make_root):
    root = make_root('a')
    mask(root, 'a', np.minimum(LABELS, 3).astype(np.uint8))
    assert check(root).faults == {'class without pixels': ['class 4 (z) has no pixels']}
    assert list(check(root, name='val_dataloader').notes) == ['class without pixels']


def test_labels_that_count_from_another_number_are_suspected(make_root):
    root = make_root('a')
    mask(root, 'a', (np.arange(21 * 34).reshape(21, 34) % 6).astype(np.uint16))
    found = check(root)
    assert set(found.faults) == {'label outside the classes', 'reduce_zero_label'}
    (why,) = found.faults['reduce_zero_label']
    assert 'labels up to 5, but the last of 5 classes is 4' in why
    assert 'needs reduce_zero_label=True' in why
    assert check(root, reduce_zero_label=True).faults == {}
    mask(root, 'a', LABELS.astype(np.uint16))
    assert check(root).faults == {}
    (why,) = check(root, reduce_zero_label=True).faults['reduce_zero_label']
    assert 'no mask contains the label 5' in why
    assert 'needs reduce_zero_label=False' in why


def test_labels_are_listed_with_their_trained_label(make_root):
    root = make_root('a')
    labels = (np.arange(21 * 34).reshape(21, 34) % 6).astype(np.uint8)
    mask(root, 'a', labels)
    found = check(root, reduce_zero_label=True)
    rows = {row['label']: (row['trained'], row['name'], row['pixels']) for row in as_dict(found)['labels']}
    count = [int((labels == label).sum()) for label in range(6)]
    assert rows[0] == (255, '(no label)', count[0])
    assert rows[5] == (4, 'z', count[5])
    assert f'{5:>8} {4:>8} {100 * count[5] / labels.size:>9.3f} {1:>7}  z' in render(found)


def test_exif_orientation_is_a_note_and_applied_as_loaded(make_root):
    root = make_root('a')
    mask(root, 'a', LABELS.astype(np.uint8))
    tags = Image.Exif()
    tags[274] = 6
    jpeg(root, 'a', GREY, exif=tags)
    found = check(root)
    assert list(found.notes) == ['EXIF orientation']
    assert list(found.faults) == ['sizes differ']
    step = {'type': 'LoadImageFromFile', 'color_type': 'color_ignore_orientation'}
    nested = [{'type': 'TestTimeAug', 'transforms': [[{'type': 'Resize'}], [step]]}]
    assert check(root, pipeline=nested).faults == {}
    mask(root, 'a', LABELS.astype(np.uint8).T)
    assert check(root).faults == {}


def test_contradicting_settings_are_an_error(make_root):
    pipeline = [PIPELINE[0], {'type': 'LoadAnnotations', 'reduce_zero_label': True}]
    with pytest.raises(ValueError, match='contradicts the data set'):
        check(make_root('a'), pipeline=pipeline)


def _die(index):
    os._exit(3)


def test_a_dead_worker_is_reported(make_root, monkeypatch):
    monkeypatch.setattr('dpt.extras.read_samples._inspect', _die)
    with pytest.raises(ValueError, match='a process that reads images died, at .*a.jpg'):
        check(make_root('a'), workers=1)


def test_masks_of_one_class_besides_ignored_pixels_are_a_fault(make_root):
    root = make_root('a')
    mask(root, 'a', np.where(LABELS > 0, 255, 0).astype(np.uint8))
    assert '(v) or ignored' in check(root, metainfo={'classes': ('v', 'w')}).faults['one class'][0]
