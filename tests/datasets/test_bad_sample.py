"""Bad samples raise one line that names the file, or are skipped and replaced by seed."""

import os
import pickle
import re

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from dpt.cli import explain
from dpt.datasets import BaseSegDataset
from dpt.datasets.bad_sample import BadSampleError
from dpt.engine.sampling import Draw, SeededDataset, derived_seed

PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadAnnotations'},
    {'type': 'RandomCrop', 'crop_size': 16},
    {'type': 'PackSegInputs'},
]
NAMES = tuple('abcdefgh')


def build(root, pipeline=None, **kwargs):
    return BaseSegDataset(
        data_root=str(root),
        data_prefix={'img_path': 'images', 'seg_map_path': 'annotations'},
        metainfo={'classes': tuple('vwxyz')},
        pipeline=PIPELINE if pipeline is None else pipeline,
        **kwargs,
    )


def spoil(root, *names):
    for name in names:
        (root / f'images/{name}.jpg').write_bytes(b'no image')


def paths(dataset, draws):
    items = [dataset[draw] for draw in draws]
    return [(os.path.basename(item['data_samples'].img_path), item['inputs'].sum().item()) for item in items]


def draws():
    return [Draw(place % 8, derived_seed(7, place)) for place in range(16)]


def test_first_bad_sample_raises_by_default_and_is_named(make_root):
    root = make_root('a', 'b')
    spoil(root, 'b')
    with pytest.raises(BadSampleError, match=re.escape(f'image {root}/images/b.jpg cannot be read')):
        build(root)[1]


def test_worker_error_is_one_line_with_file(make_root):
    root = make_root('a')
    spoil(root, 'a')
    with pytest.raises(BadSampleError) as caught:
        list(DataLoader(build(root), num_workers=1, collate_fn=list))
    assert explain(caught.value) == f'image {root}/images/a.jpg cannot be read: ' + (
        'the file is damaged or not an image'
    )


def test_transform_error_names_file_and_is_not_skipped(make_root):
    def fail(sample):
        raise ValueError('too small\nfor this')

    def fail_in_opencv(sample):
        cv2.resize(np.zeros((2, 2), np.uint8), (0, 0))

    root = make_root('a', 'b')
    with pytest.raises(BadSampleError, match=re.escape(f'image {root}/images/a.jpg: too small for this')):
        build(root, [fail], max_bad_samples=5)[0]
    with pytest.raises(BadSampleError, match=re.escape(f'image {root}/images/a.jpg: ')):
        build(root, [fail_in_opencv])[0]


RESIZES = [
    [
        {'type': 'RandomResize', 'scale': (64, 32), 'ratio_range': (0.5, 2.0), 'keep_ratio': True},
        {'type': 'RandomCrop', 'crop_size': 16},
        {'type': 'RandomFlip', 'prob': 0.5},
    ],
    [{'type': 'Resize', 'scale': (64, 32), 'keep_ratio': True}],
]


@pytest.mark.parametrize('resize', RESIZES)
def test_image_too_narrow_to_resize_is_bad_sample(make_root, resize):
    root = make_root('a', 'b')
    cv2.imwrite(str(root / 'images/b.jpg'), np.zeros((2000, 2, 3), np.uint8))
    cv2.imwrite(str(root / 'annotations/b.png'), np.ones((2000, 2), np.uint8))
    pipeline = [*PIPELINE[:2], *resize, PIPELINE[3]]
    message = f'image {root}/images/b.jpg: one side would be shorter than one pixel after resizing'
    with pytest.raises(BadSampleError, match=re.escape(message)) as caught:
        build(root, pipeline)[1]
    assert caught.value.kind == 'image too narrow'
    dataset = build(root, pipeline, max_bad_samples=1)
    assert paths(dataset, [Draw(1, 3)])[0][0] == 'a.jpg'


def test_type_errors_of_transforms_are_not_wrapped(make_root):
    with pytest.raises(TypeError):
        build(make_root('a'), [lambda sample: len(1)])[0]


def test_replacement_of_bad_sample_follows_from_seed_and_place(make_root):
    root = make_root(*NAMES)
    spoil(root, 'b', 'e')
    taken = paths(SeededDataset(build(root, max_bad_samples=2)), draws())
    assert not {'b.jpg', 'e.jpg'} & {name for name, _ in taken}
    # Entered in the middle, as a resumed run does, and in two workers: the same samples with the same crops.
    again = SeededDataset(build(root, max_bad_samples=2))
    assert paths(again, draws()[9:]) == taken[9:]
    loader = DataLoader(again, sampler=draws(), batch_size=1, num_workers=2, collate_fn=list)
    batches = [batch[0] for batch in loader]
    assert [os.path.basename(item['data_samples'].img_path) for item in batches] == [
        name for name, _ in taken
    ]
    assert [item['inputs'].sum().item() for item in batches] == [total for _, total in taken]


def test_bad_samples_are_counted_over_all_workers(make_root):
    root = make_root(*NAMES)
    spoil(root, *'abc')
    allowed = build(root, max_bad_samples=3)
    assert len(paths(SeededDataset(allowed), draws())) == 16  # each is met twice
    dataset = SeededDataset(build(root, max_bad_samples=2))
    loader = DataLoader(dataset, sampler=draws(), num_workers=2, collate_fn=list)
    expected = (
        r'bad sample number 3, which exceeds max_bad_samples=2; tools/check_data.py lists all bad samples'
    )
    with pytest.raises(BadSampleError, match=expected) as caught:
        list(loader)
    line = explain(caught.value)
    assert line.startswith(f'image {root}/images/')
    assert '\n' not in line


def test_each_skip_is_logged_once(make_root, monkeypatch):
    lines = []
    monkeypatch.setattr('dpt.datasets.bad_sample.print_log', lambda line, *_: lines.append(line))
    root = make_root(*NAMES)
    spoil(root, 'd')
    paths(SeededDataset(build(root, max_bad_samples=4)), draws())
    assert lines == [
        f'skipped, 1 of at most 4 bad samples: image {root}/images/d.jpg cannot be read: '
        'the file is damaged or not an image'
    ]


def test_evaluation_never_skips(make_root):
    with pytest.raises(ValueError, match='max_bad_samples=3: .* 0 in test mode'):
        build(make_root('a'), max_bad_samples=3, test_mode=True)
    with pytest.raises(ValueError, match='max_bad_samples=-1'):
        build(make_root('a'), max_bad_samples=-1)


def test_bad_sample_error_pickles():
    error = pickle.loads(pickle.dumps(BadSampleError('image a.jpg', 'image empty')))
    assert (str(error), error.kind) == ('image a.jpg', 'image empty')


def test_unlabelled_images_are_bad_if_not_allowed(make_root):
    root = make_root('a')
    cv2.imwrite(str(root / 'annotations/a.png'), np.full((21, 34), 255, np.uint8))
    assert build(root)[0]['data_samples'].gt_sem_seg.data.unique().tolist() == [255]
    with pytest.raises(BadSampleError, match=r'annotations/a\.png has no labelled pixel'):
        build(root, allow_unlabelled=False)[0]
