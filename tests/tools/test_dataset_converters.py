"""Masks of Cityscapes, SBD and PASCAL in Detail, made small and converted by the tools."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dpt.extras.files import write_lines

CITY_TOOL = 'dataset_converters/cityscapes'
VOC_TOOL = 'dataset_converters/voc_aug'
CONTEXT_TOOL = 'dataset_converters/pascal_context'


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_cityscapes(call, tool_module, tmp_path: Path) -> None:
    folder = tmp_path / 'gtFine' / 'val' / 'ulm'
    folder.mkdir(parents=True)
    source = folder / 'ulm_000000_000019_gtFine_labelIds.png'
    cv2.imwrite(str(source), np.arange(34, dtype=np.uint8).reshape(2, 17))
    status, told, _ = call(CITY_TOOL, tmp_path)
    assert status == 0
    assert 'val: 1 masks of 500' in told
    trained = read(folder / 'ulm_000000_000019_gtFine_labelTrainIds.png').ravel().tolist()
    # The published table: label id -> train id; all others are ignored.
    table = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12}
    table |= {26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    assert trained == [table.get(label, 255) for label in range(34)]
    assert read(source).max() == 33
    (tmp_path / 'a_labelIds.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match='a_labelIds.png is not a grey PNG with label ids'):
        tool_module(f'tools/{CITY_TOOL}.py').convert(tmp_path / 'a_labelIds.png')


def test_voc(call, tool_module, tmp_path: Path) -> None:
    scipy_io = pytest.importorskip('scipy.io')
    lists = tmp_path / 'VOC2012' / 'ImageSets' / 'Segmentation'
    write_lines(lists / 'train.txt', ['a', 'only_voc'])
    write_lines(lists / 'val.txt', ['b'])
    release = tmp_path / 'SBD' / 'dataset'
    (release / 'cls').mkdir(parents=True)
    for name in ('a', 'b', 'c'):  # for training, for validation, new
        labels = np.array([[0, 15, 20]], np.uint8)
        scipy_io.savemat(release / 'cls' / f'{name}.mat', {'GTcls': {'Segmentation': labels}})
    write_lines(release / 'train.txt', ['a', 'c'])
    write_lines(release / 'val.txt', ['b'])
    status, told, _ = call(VOC_TOOL, tmp_path / 'VOC2012', tmp_path / 'SBD')
    assert status == 0
    assert 'aug.txt: 1, trainaug.txt: 3' in told
    assert 'note: the complete data sets have 10582' in told
    assert read(tmp_path / 'VOC2012' / 'SegmentationClassAug' / 'c.png').tolist() == [[0, 15, 20]]
    assert (lists / 'aug.txt').read_text() == 'c\n'
    assert (lists / 'trainaug.txt').read_text() == 'a\nc\nonly_voc\n'
    (tmp_path / 'a.mat').write_bytes(b'no mat file')
    with pytest.raises(ValueError, match='a.mat is not an SBD mask'):
        tool_module(f'tools/{VOC_TOOL}.py').convert(tmp_path / 'a.mat', tmp_path)


def test_pascal_context(call, tool_module, tmp_path: Path) -> None:
    mask = pytest.importorskip('pycocotools.mask')

    def run_length(*columns: int) -> dict:
        covered = np.zeros((2, 4), np.uint8, order='F')
        covered[:, columns] = 1
        encoded = mask.encode(covered)
        return dict(encoded, counts=encoded['counts'].decode())

    images = [
        dict(image_id=1, file_name='2008_000002.jpg', height=2, width=4, phase='train'),
        dict(image_id=2, file_name='2008_000003.jpg', height=2, width=4, phase='val'),
        dict(image_id=3, file_name='2008_000004.jpg', height=2, width=4, phase='test'),
    ]
    annotations = [
        dict(image_id=1, category_id=2, segmentation=run_length(0, 1)),  # aeroplane, the first class
        dict(image_id=1, category_id=458, segmentation=run_length(1, 2)),  # wood, the last
        dict(image_id=2, category_id=105, segmentation=run_length(3)),
    ]
    content = dict(images=images, annos_segmentation=annotations)
    (tmp_path / 'trainval_merged.json').write_text(json.dumps(content))
    status, told, _ = call(CONTEXT_TOOL, tmp_path)
    assert status == 0
    assert 'train: 1 of 4998 masks' in told
    masks = tmp_path / 'SegmentationClassContext'
    assert sorted(path.name for path in masks.iterdir()) == ['2008_000002.png', '2008_000003.png']
    assert read(masks / '2008_000002.png').tolist() == [[1, 59, 59, 0]] * 2
    lists = tmp_path / 'ImageSets' / 'SegmentationContext'
    assert (lists / 'val.txt').read_text() == '2008_000003\n'
    with pytest.raises(ValueError, match='category 7 is not one of the 59'):
        tool_module(f'tools/{CONTEXT_TOOL}.py').paint(images[0], [dict(annotations[0], category_id=7)])
