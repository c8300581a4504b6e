"""BaseSegDataset: its samples, its metainfo and its errors."""

import re
from collections import OrderedDict

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import DefaultScope

from dpt.datasets import BaseSegDataset, LoadAnnotations
from dpt.registry import DATASETS

PREFIX = {'img_path': 'images', 'seg_map_path': 'annotations'}
CLASSES = ('sky', 'road', 'tree', 'car', 'person')


def build(root, cls=BaseSegDataset, **kwargs):
    defaults = {'data_root': str(root), 'data_prefix': PREFIX}
    if cls is BaseSegDataset:
        defaults['metainfo'] = {'classes': CLASSES}
    return cls(**{**defaults, **kwargs})


class Streets(BaseSegDataset):
    METAINFO = {'classes': CLASSES, 'palette': [[i, 10 * i, 100 + i] for i in range(5)]}


def names(dataset):
    return [dataset.get_data_info(i)['img_path'].split('images/')[-1] for i in range(len(dataset))]


def test_sample_holds_paths_and_settings_of_the_data_set(make_root):
    root = make_root('a')
    (sample,) = build(root, serialize_data=False, reduce_zero_label=True).data_list
    assert sample == {
        'img_path': str(root / 'images/a.jpg'),
        'seg_map_path': str(root / 'annotations/a.png'),
        'label_map': None,
        'reduce_zero_label': True,
        'num_classes': 5,
        'ignore_index': 255,
        'allow_unlabelled': True,
        'seg_fields': [],
    }


def test_images_are_sorted_and_sub_folders_are_searched(make_root):
    root = make_root('b', 'a', 'city/z', 'city/east/y', 'c', '.ipynb_checkpoints/a-checkpoint')
    (root / 'images' / 'again').symlink_to(root / 'images')
    dataset = build(root)
    assert names(dataset) == sorted(names(dataset))
    assert set(names(dataset)) == {'a.jpg', 'b.jpg', 'c.jpg', 'city/z.jpg', 'city/east/y.jpg'}
    assert dataset.get_data_info(3)['seg_map_path'].endswith('annotations/city/east/y.png')


def test_suffixes_may_include_part_of_stem(make_root):
    root = make_root('a', 'b')
    for stem in 'ab':
        (root / f'images/{stem}.jpg').rename(root / f'images/{stem}_left.jpg')
        (root / f'annotations/{stem}.png').rename(root / f'annotations/{stem}_ids.png')
    dataset = build(root, img_suffix='_left.jpg', seg_map_suffix='_ids.png')
    assert names(dataset) == ['a_left.jpg', 'b_left.jpg']
    assert dataset.get_data_info(1)['seg_map_path'].endswith('/b_ids.png')


def test_split_file_keeps_order_of_stems_and_names(make_root):
    root = make_root('a', 'b', 'c', 'sub/d')
    (root / 'train.txt').write_text('c\n\na.jpg\r\n  sub/d  \n')
    assert names(build(root, ann_file='train.txt')) == ['c.jpg', 'a.jpg', 'sub/d.jpg']


def test_folders_default_to_data_root(make_root):
    root = make_root('a')
    (root / 'annotations/a.png').rename(root / 'images/a.png')
    dataset = BaseSegDataset(data_root=str(root / 'images'), metainfo={'classes': CLASSES})
    assert dataset.get_data_info(0)['seg_map_path'] == str(root / 'images/a.png')


@pytest.mark.parametrize('prefix', [{'img_path': 'images'}, {'img_path': 'images', 'seg_map_path': None}])
def test_test_mode_needs_no_annotations(make_root, prefix):
    dataset = build(
        make_root('a'),
        data_prefix=prefix,
        test_mode=True,
        pipeline=[{'type': 'LoadImageFromFile'}, {'type': 'PackSegInputs'}],
    )
    assert 'seg_map_path' not in dataset.get_data_info(0)
    assert dataset[0]['inputs'].shape == (3, 21, 34)


def test_test_mode_does_not_look_for_masks(make_root):
    root = make_root('a', 'b')
    (root / 'annotations/b.png').unlink()
    dataset = build(root, test_mode=True)
    assert len(dataset) == 2
    assert dataset.get_data_info(1)['seg_map_path'].endswith('annotations/b.png')


@pytest.mark.parametrize('registry', [DATASETS, ROOT_DATASETS])
def test_built_by_registries_and_read(make_root, registry):
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}, {'type': 'PackSegInputs'}]
    config = {
        'type': 'BaseSegDataset',
        'data_root': str(make_root('a', 'b')),
        'data_prefix': PREFIX,
        'metainfo': {'classes': CLASSES},
        'pipeline': pipeline,
        'lazy_init': True,
    }
    dataset = registry.build(config)
    dataset.full_init()
    assert len(dataset) == 2
    assert dataset[1]['data_samples'].gt_sem_seg.data.shape == (1, 21, 34)
    assert {'classes', 'palette'} <= set(dataset.metainfo)


def test_transforms_are_found_without_default_scope(make_root, monkeypatch):
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    assert DefaultScope.get_current_instance() is None
    dataset = build(make_root('a'), pipeline=[{'type': 'LoadAnnotations'}])
    assert type(dataset.pipeline.transforms[0]) is LoadAnnotations


def test_unknown_argument_raises(make_root):
    with pytest.raises(TypeError, match='img_sufix'):
        build(make_root('a'), img_sufix='.png')


# --- classes, palette, label map


def test_selected_classes_set_label_map_and_palette(make_root):
    dataset = build(make_root('a'), Streets, metainfo={'classes': ['car', 'sky']})
    assert dataset.get_data_info(0)['label_map'] == {0: 1, 1: 255, 2: 255, 3: 0, 4: 255}
    assert dataset.metainfo['palette'] == [[3, 30, 103], [0, 0, 100]]
    assert dataset.metainfo['classes'] == ['car', 'sky']
    dataset = build(make_root('a'), Streets, metainfo={'classes': CLASSES[::-1]})
    assert dataset.metainfo['label_map'] == {0: 4, 1: 3, 2: 2, 3: 1, 4: 0}
    assert dataset.metainfo['palette'] == Streets.METAINFO['palette'][::-1]


def test_palette_given_with_selection_keeps_its_order(make_root):
    own = [[9, 9, 9], [8, 8, 8]]
    dataset = build(make_root('a'), Streets, metainfo={'classes': ['car', 'sky'], 'palette': own})
    assert dataset.metainfo['palette'] == own


def test_all_classes_in_order_need_no_label_map(make_root):
    dataset = build(make_root('a'), Streets, metainfo={'classes': [*CLASSES[:-1], 'person ']})
    assert dataset.metainfo['label_map'] is None
    assert dataset.metainfo['palette'] == Streets.METAINFO['palette']


def test_classes_are_read_from_a_text_file(make_root):
    root = make_root('a')
    (root / 'classes.txt').write_text('tree\nroad\n')
    dataset = build(root, Streets, metainfo={'classes': str(root / 'classes.txt')})
    assert dataset.metainfo['label_map'] == {0: 255, 1: 1, 2: 0, 3: 255, 4: 255}


CLASS_FILES = [b'\xef\xbb\xbfa\r\nb c\r\n\r\n', 'a\nb c\n \n'.encode('utf-16')]


@pytest.mark.parametrize('content', CLASS_FILES)
def test_text_files_may_have_marks_and_blank_lines(make_root, content):
    root = make_root('a', 'b c')
    (root / 'list.txt').write_bytes(content)
    (root / 'colours.txt').write_text('#010203\n4 5,6\n\n')
    found = build(
        root,
        metainfo=dict(classes=str(root / 'list.txt'), palette=str(root / 'colours.txt')),
        ann_file='list.txt',
    )
    assert found.metainfo['classes'] == ['a', 'b c']
    assert found.metainfo['palette'] == [[1, 2, 3], [4, 5, 6]]
    assert [sample['img_path'][-7:] for sample in found] == ['s/a.jpg', 'b c.jpg']


def test_names_and_colours_are_read_in_every_form(make_root):
    root = make_root('a')
    found = build(root, metainfo=dict(classes=[0, 1], palette=['#ff0001', np.array([1.0, 2.0, 3.0])]))
    assert found.metainfo['classes'] == ['0', '1']
    assert found.metainfo['palette'] == [[255, 0, 1], [1, 2, 3]]
    for wrong in ('red', (1, 2), (0.5, 0.5, 1), (0, 0, 256), None):
        with pytest.raises(ValueError, match=r'palette contains .*: expected \[R, G, B\] from 0 to 255, or'):
            build(root, metainfo=dict(classes=['x', 'y'], palette=[(0, 0, 0), wrong]))
    for wrong in (2, ['x', None], ['x', 1.5]):
        with pytest.raises(ValueError, match='expected a list of strings'):
            build(root, metainfo=dict(classes=wrong))


def test_names_in_two_unicode_forms_are_shown(make_root):
    root = make_root('b', 'u\u0308')
    (root / 'list.txt').write_text('b\n\u00fc\n', encoding='utf-8')
    with pytest.raises(FileNotFoundError, match=r"'\\xfc' looks like the file 'u\\u0308', but is written"):
        build(root, ann_file='list.txt')
    (root / 'annotations' / 'u\u0308.png').rename(root / 'annotations' / '\u00fc.png')
    with pytest.raises(FileNotFoundError, match=r"'u\\u0308.png' looks like the file '\\xfc.png'"):
        build(root)


def test_images_with_another_suffix_are_told(make_root, monkeypatch):
    lines = []
    monkeypatch.setattr('dpt.datasets.pairs.print_log', lambda line, *_: lines.append(line))
    root = make_root('a', 'b', 'c')
    (root / 'images' / 'c.jpg').rename(root / 'images' / 'c.JPG')
    assert len(build(root)) == 2
    (told,) = lines
    assert '1 of 3 images in' in told
    assert "are not used, such as c.JPG: they do not end in img_suffix='.jpg'" in told


def test_missing_palette_is_generated_without_drawing_random_numbers(make_root):
    root = make_root('a')
    np.random.seed(3)
    expected_draw = np.random.RandomState(3).rand()
    first, second = build(root).metainfo['palette'], build(root).metainfo['palette']
    assert np.random.rand() == expected_draw
    assert first == second
    assert np.array(first).shape == (5, 3)
    assert len({tuple(colour) for colour in first}) == 5


@pytest.mark.parametrize(
    ('metainfo', 'message'),
    [
        ({'classes': ['car', 'boat']}, r"Streets has no class \['boat'\].*'sky', 'road'"),
        ({'classes': ['car', 'car']}, r"\['car'\] more than once"),
        ({'classes': 'no_such_file.txt'}, r"classes='no_such_file.txt': the file does not exist"),
        ({'classes': []}, r'set metainfo=dict\(classes'),
        ({'palette': [[1, 2, 3]]}, 'palette has 1 colours for 5 classes'),
    ],
)
def test_wrong_metainfo_raises_before_listing(tmp_path, metainfo, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path / 'nowhere', Streets, metainfo=metainfo, lazy_init=True)


def test_missing_classes_raise(tmp_path):
    with pytest.raises(ValueError, match=r'set metainfo=dict\(classes=\(...\)\)'):
        BaseSegDataset(data_root=str(tmp_path), lazy_init=True)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(ignore_index=4),
        dict(ignore_index=-1),
        dict(ignore_index=5, reduce_zero_label=True),  # 5 in a mask is class 4
        dict(ignore_index=4, metainfo=dict(classes=CLASSES[:2])),  # 4 in a mask is another class
        dict(cls=BaseSegDataset, metainfo=dict(classes=list(map(str, range(256))))),
        dict(cls=BaseSegDataset, metainfo=dict(classes=list(map(str, range(255)))), reduce_zero_label=True),
    ],
)
def test_void_label_and_class_never_share_a_number(tmp_path, arguments):
    with pytest.raises(ValueError, match='the label of pixels without a class must be above'):
        build(tmp_path, **{'cls': Streets, 'lazy_init': True, **arguments})


@pytest.mark.parametrize(
    ('ignore_index', 'arguments', 'expected'),
    [
        (5, {}, [0, 1, 4, 5]),
        (9, dict(reduce_zero_label=True), [9, 0, 3, 9]),
        (9, dict(metainfo=dict(classes=CLASSES[1::3])), [9, 0, 1, 9]),
        (65535, {}, [0, 1, 4, 65535]),
        (65535, dict(reduce_zero_label=True), [65535, 0, 3, 65535]),
    ],
)
def test_any_void_label_is_kept_and_written(make_root, ignore_index, arguments, expected):
    root = make_root('a')
    wide = np.uint16 if ignore_index > 255 else np.uint8
    labels = np.tile(np.array([0, 1, 4, ignore_index], wide), (21, 9))[:, :34]
    cv2.imwrite(str(root / 'annotations/a.png'), labels)
    dataset = build(root, Streets, ignore_index=ignore_index, pipeline=[LoadAnnotations()], **arguments)
    assert dataset[0]['gt_seg_map'][0, :4].tolist() == expected


def test_class_balanced_data_set_repeats_rare_classes(make_root):
    root = make_root('a', 'b', 'c', 'd')
    for name, label in zip('abcd', [1, 1, 1, 2], strict=True):
        labels = np.full((21, 34), label, np.uint8)
        labels[0] = 255
        cv2.imwrite(str(root / f'annotations/{name}.png'), labels)
    metainfo = dict(classes=CLASSES)
    inner = dict(type='BaseSegDataset', data_root=str(root), data_prefix=PREFIX, metainfo=metainfo)
    dataset = DATASETS.build(dict(type='ClassBalancedDataset', oversample_thr=1.0, dataset=inner))
    # Repeat factors by definition: sqrt(1 / (3 / 4)) and sqrt(1 / (1 / 4)) = 2, rounded up.
    assert dataset.repeat_indices == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [dataset.dataset.get_cat_ids(i) for i in range(4)] == [[1], [1], [1], [2]]
    dataset = DATASETS.build(dict(type='ClassBalancedDataset', oversample_thr=0.5, dataset=inner))
    assert dataset.repeat_indices == [0, 1, 2, 3, 3]


def test_class_balanced_data_set_counts_bad_masks(make_root):
    root = make_root('a', 'b')
    (root / 'annotations/b.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'annotations/b\.png cannot be read'):
        build(root).get_cat_ids(1)
    assert build(root, max_bad_samples=1).get_cat_ids(1) == []


def test_one_class_is_refused_with_a_remedy(tmp_path):
    metainfo = dict(classes=('crack',))
    with pytest.raises(ValueError, match=r"got one class, 'crack'.*classes=\('background', 'crack'\)"):
        build(tmp_path, metainfo=metainfo, reduce_zero_label=True, lazy_init=True)
    with pytest.raises(ValueError, match='Select two or more'):
        build(tmp_path, Streets, metainfo=dict(classes=('car',)), lazy_init=True)


# --- what is missing on disk


@pytest.mark.parametrize('key', ['img_path', 'seg_map_path'])
def test_missing_folder_is_named(make_root, key):
    root = make_root('a')
    with pytest.raises(FileNotFoundError, match=re.escape(f'folder {root}/elsewhere does not exist')):
        build(root, data_prefix={**PREFIX, key: 'elsewhere'})


def test_no_folder_raises(make_root):
    with pytest.raises(ValueError, match='set data_root or data_prefix'):
        BaseSegDataset(metainfo={'classes': CLASSES})


def test_unknown_prefix_keys_are_refused(make_root):
    with pytest.raises(ValueError, match=r"\['img'\]"):
        build(make_root('a'), data_prefix={'img': 'images'})


def test_wrong_suffix_error_lists_present_suffixes(make_root):
    root = make_root('a', 'b')
    (root / 'images/notes.txt').write_text('')
    with pytest.raises(ValueError, match=r"ends in '\.JPG', found 2 \.jpg, 1 \.txt"):
        build(root, img_suffix='.JPG')


def test_empty_folder_raises(make_root):
    root = make_root('a')
    (root / 'images/a.jpg').unlink()
    with pytest.raises(ValueError, match='found no files'):
        build(root)


def test_images_without_mask_are_counted_and_named(make_root):
    root = make_root('a', 'b', 'c', 'd', 'sub/e')
    for stem in ('b', 'c', 'd', 'sub/e'):
        (root / f'annotations/{stem}.png').unlink()
    expected = re.escape(f'4 of 5 images have no mask in {root}/annotations: b.png, c.png, d.png, ...')
    with pytest.raises(FileNotFoundError, match=expected):
        build(root)


def test_training_without_annotation_folder_raises(make_root):
    with pytest.raises(ValueError, match=r"no data_prefix\['seg_map_path'\]"):
        build(make_root('a'), data_prefix={'img_path': 'images'})


def test_split_entries_without_image_are_named(make_root):
    root = make_root('a')
    (root / 'train.txt').write_text('a\nghost\n')
    expected = re.escape(f'1 of 2 names in the split file {root}/train.txt have no image') + '.*: ghost.jpg'
    with pytest.raises(FileNotFoundError, match=expected):
        build(root, ann_file='train.txt')


def test_missing_or_empty_split_file_is_named(make_root):
    root = make_root('a')
    with pytest.raises(FileNotFoundError, match=re.escape(f'split file {root}/train.txt does not exist')):
        build(root, ann_file='train.txt')
    (root / 'train.txt').write_text('\n')
    with pytest.raises(ValueError, match='lists no images'):
        build(root, ann_file='train.txt')


@pytest.mark.parametrize(
    ('masks', 'settings', 'told'),
    [
        ([(0, 255), (0, 255)], {}, 'class 0 .x. or ignored, .* convert the masks'),
        ([(0, 1), (0, 1)], {'reduce_zero_label': True}, 'class 0 .x. or ignored, .* reduce_zero_label=False'),
        ([(0, 255), (0, 1)], {}, None),
        ([(0, 255), (1, 255)], {}, None),
        ([(0, 0), (0, 255)], {}, None),
        ([(0, 255), (0, 255)], {'test_mode': True}, None),
    ],
)
def test_masks_of_one_class_are_told(masks, settings, told, make_root, monkeypatch):
    lines = []
    monkeypatch.setattr('dpt.datasets.segmentation.print_log', lambda line, *_: lines.append(line))
    root = make_root('a', 'b')
    for name, pair in zip('ab', masks, strict=True):
        assert cv2.imwrite(str(root / f'annotations/{name}.png'), np.repeat(np.uint8([pair]), 17, axis=1))
    build(root, metainfo={'classes': ('x', 'y')}, pipeline=[LoadAnnotations()], **settings)
    assert [bool(re.search(told or '', line)) for line in lines] == ([True] if told else [])
