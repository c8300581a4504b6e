"""Random input to the data path: right, or a ValueError; never a crash, never a silently wrong answer.

A few derandomised examples of each; ``DPT_FUZZ_EXAMPLES=2000`` draws that many, anew each time.
"""

import io
import os

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose
from PIL import Image

from dpt.datasets import BaseSegDataset
from dpt.datasets.transforms.loading import is_truncated
from dpt.registry import TRANSFORMS

EXAMPLES = int(os.environ.get('DPT_FUZZ_EXAMPLES', '0'))
AREA = 40_000
CLASSES = tuple('abcdefg')


def fuzz(*strategies, **named):
    def decorate(test):
        chosen = settings(max_examples=EXAMPLES or 20, derandomize=not EXAMPLES, deadline=None, database=None)
        return chosen(given(*strategies, **named)(test))

    return decorate


@st.composite
def shapes(draw):
    """(height, width) of 1 to 3000 pixels a side, of a bounded area."""
    long = draw(st.integers(1, 3000))
    short = draw(st.integers(1, min(3000, AREA // long)))
    return (long, short) if draw(st.booleans()) else (short, long)


@st.composite
def samples(draw, labels=(0, 3, 6, 255)):
    """A sample in memory whose image's first channel holds the labels: it shows whether both stay aligned."""
    height, width = draw(shapes())
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = generator.choice(np.array(labels, np.uint8), (height, width))
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[..., 0] = mask
    return dict(
        img=image,
        img_shape=(height, width),
        ori_shape=(height, width),
        gt_seg_map=mask,
        seg_fields=['gt_seg_map'],
    )


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    """A data set of one sample, whose pipeline is replaced: errors are those that a user meets."""
    root = tmp_path_factory.mktemp('fuzz')
    for folder, suffix in (('images', 'jpg'), ('annotations', 'png')):
        (root / folder).mkdir()
        cv2.imwrite(str(root / folder / f'a.{suffix}'), np.zeros((8, 9), np.uint8))
    return BaseSegDataset(
        data_root=str(root),
        data_prefix={'img_path': 'images', 'seg_map_path': 'annotations'},
        metainfo={'classes': CLASSES},
    )


def apply(dataset, sample, *steps):
    """What the data set makes of a sample in memory; None for a ValueError."""
    dataset.pipeline = Compose([lambda info: {**info, **sample}, *(TRANSFORMS.build(step) for step in steps)])
    try:
        return dataset[0]
    except ValueError as error:
        message = str(error)
    assert 'a.jpg' in message or 'a.png' in message
    return None


def labels_of(array):
    return set(np.unique(array).tolist())


@fuzz(sample=samples(), crop=shapes(), ratio=st.floats(0.01, 1), seed=st.integers(0, 2**32 - 1))
def test_crops_stay_aligned_with_labels(dataset, sample, crop, ratio, seed):
    np.random.seed(seed)
    height, width = sample['img_shape']
    result = apply(dataset, sample, dict(type='RandomCrop', crop_size=crop, cat_max_ratio=ratio))
    assert result['img'].shape == (min(crop[0], height), min(crop[1], width), 3)
    assert result['img_shape'] == result['img'].shape[:2]
    np.testing.assert_array_equal(result['img'][..., 0], result['gt_seg_map'])


# --- files


@fuzz(
    values=st.lists(st.integers(0, 65535) | st.integers(0, 9) | st.just(255), min_size=1, max_size=30),
    reduce_zero_label=st.booleans(),
    chosen=st.lists(st.sampled_from(range(len(CLASSES))), unique=True, max_size=len(CLASSES)),
)
def test_labels_are_valid_or_mask_is_refused(dataset, values, reduce_zero_label, chosen):
    label_map = {i: chosen.index(i) if i in chosen else 255 for i in range(len(CLASSES))} if chosen else None
    count = len(chosen) or len(CLASSES)
    trained = []
    for value in values:
        label = value
        if reduce_zero_label:
            label = 255 if value in (0, 255) else value - 1
        trained.append(label_map.get(label, label) if label_map else label)
    info = dataset.get_data_info(0)
    cv2.imwrite(info['seg_map_path'], np.array([values], np.uint8 if max(values) < 256 else np.uint16))
    sample = dict(
        ori_shape=(1, len(values)),
        reduce_zero_label=reduce_zero_label,
        label_map=label_map,
        num_classes=count,
    )
    result = apply(dataset, sample, dict(type='LoadAnnotations'))
    if any(label >= count and label != 255 for label in trained):
        assert result is None
    else:
        assert result['gt_seg_map'].tolist() == [trained]


def _encoded(kind):
    generator = np.random.default_rng(3)
    shape = (24, 31) if kind == 'mask' else (24, 31, 3)
    buffer = io.BytesIO()
    picture = Image.fromarray(generator.integers(0, 7, shape, dtype=np.uint8))
    picture.save(buffer, 'PNG' if kind == 'mask' else kind)
    return buffer.getvalue()


@st.composite
def damaged(draw, kinds):
    """A valid file, cut, overwritten or wholly made up."""
    content = bytearray(_encoded(draw(st.sampled_from(kinds))))
    damage = draw(st.sampled_from(['cut', 'overwrite', 'insert', 'noise']))
    if damage == 'noise':
        return draw(st.binary(max_size=300))
    place = draw(st.integers(0, len(content)))
    if damage == 'cut':
        return bytes(content[:place])
    other = draw(st.binary(min_size=1, max_size=8))
    content[place : place + (len(other) if damage == 'overwrite' else 0)] = other
    return bytes(content)


@fuzz(content=damaged(['JPEG', 'PNG', 'GIF', 'BMP', 'WEBP', 'TIFF']))
def test_damaged_image_is_read_whole_or_refused(dataset, content):
    path = dataset.get_data_info(0)['img_path']
    with open(path, 'wb') as file:
        file.write(content)
    result = apply(dataset, {}, dict(type='LoadImageFromFile'))
    if result is not None:
        assert result['img'].dtype == np.uint8
        assert result['img'].shape == (*result['img_shape'], 3)
        assert not is_truncated(content)


@fuzz(content=damaged(['mask']))
def test_damaged_mask_has_valid_labels_or_is_refused(dataset, content):
    path = dataset.get_data_info(0)['seg_map_path']
    with open(path, 'wb') as file:
        file.write(content)
    result = apply(dataset, dict(ori_shape=(24, 31)), dict(type='LoadAnnotations'))
    if result is not None:
        assert result['gt_seg_map'].shape == (24, 31)
        assert labels_of(result['gt_seg_map']) <= {*range(7), 255}


@fuzz(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.lists(st.sampled_from(['a', 'b', 'a.jpg', ' b ', '', 'c', 'sub/a'])).map(
        lambda x: '\n'.join(x).encode()
    )
)
def test_split_file_lists_existing_images_or_raises(tmp_path_factory, content):
    root = tmp_path_factory.mktemp('split')
    (root / 'images').mkdir()
    for name in 'ab':
        (root / f'images/{name}.jpg').touch()
    (root / 'list.txt').write_bytes(content)
    arguments = dict(data_root=str(root), data_prefix={'img_path': 'images'}, metainfo={'classes': CLASSES})
    message = ''
    try:
        dataset = BaseSegDataset('list.txt', test_mode=True, **arguments)
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
    if message:
        assert 'list.txt' in message
        return
    names = [line.strip() for line in content.decode().splitlines() if line.strip()]
    assert [os.path.basename(dataset.get_data_info(i)['img_path']) for i in range(len(dataset))] == [
        name if name.endswith('.jpg') else f'{name}.jpg' for name in names
    ]


# --- label maps
