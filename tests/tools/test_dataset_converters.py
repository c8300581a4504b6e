"""Masks of Cityscapes, SBD and PASCAL in Detail, made small and converted by the tools."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dpt.extras.files import write_lines

CITY_TOOL = 'tools/dataset_converters/cityscapes.py'
VOC_TOOL = 'tools/dataset_converters/voc_aug.py'
CONTEXT_TOOL = 'tools/dataset_converters/pascal_context.py'


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_cityscapes(tool_main, tmp_path: Path, capsys) -> None:
    folder = tmp_path / 'gtFine' / 'val' / 'ulm'
    folder.mkdir(parents=True)
    source = folder / 'ulm_000000_000019_gtFine_labelIds.png'
    cv2.imwrite(str(source), np.arange(34, dtype=np.uint8).reshape(2, 17))
    assert tool_main(CITY_TOOL)(tmp_path) == 0
    assert 'val: 1 masks of 500' in capsys.readouterr().out
    trained = read(folder / 'ulm_000000_000019_gtFine_labelTrainIds.png').ravel().tolist()
    # The published table: label id -> train id; all others are ignored.
    table = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12}
    table |= {26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    assert trained == [table.get(label, 255) for label in range(34)]
    assert read(source).max() == 33


def test_cityscapes_names_missing_and_damaged_files(tool_main, tool_module, tmp_path: Path, capsys) -> None:
    assert tool_main(CITY_TOOL)(tmp_path) == 1
    assert 'unpack gtFine_trainvaltest.zip' in capsys.readouterr().err
    (tmp_path / 'a_labelIds.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match='a_labelIds.png is not a grey PNG with label ids'):
        tool_module(CITY_TOOL).convert(tmp_path / 'a_labelIds.png')


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC 2012's lists and SBD with one image of each kind: training, validation, new."""
    scipy_io = pytest.importorskip('scipy.io')
    lists = tmp_path / 'VOC2012' / 'ImageSets' / 'Segmentation'
    write_lines(lists / 'train.txt', ['a', 'only_voc'])
    write_lines(lists / 'val.txt', ['b'])
    release = tmp_path / 'SBD' / 'dataset'
    (release / 'cls').mkdir(parents=True)
    for name in ('a', 'b', 'c'):
        labels = np.array([[0, 15, 20]], np.uint8)
        scipy_io.savemat(release / 'cls' / f'{name}.mat', {'GTcls': {'Segmentation': labels}})
    write_lines(release / 'train.txt', ['a', 'c'])
    write_lines(release / 'val.txt', ['b'])
    return tmp_path


def test_voc(tool_main, voc: Path, capsys) -> None:
    assert tool_main(VOC_TOOL)(voc / 'VOC2012', voc / 'SBD') == 0
    told = capsys.readouterr().out
    assert 'aug.txt: 1, trainaug.txt: 3' in told
    assert 'note: the complete data sets have 10582' in told
    assert read(voc / 'VOC2012' / 'SegmentationClassAug' / 'c.png').tolist() == [[0, 15, 20]]
    lists = voc / 'VOC2012' / 'ImageSets' / 'Segmentation'
    assert (lists / 'aug.txt').read_text() == 'c\n'
    assert (lists / 'trainaug.txt').read_text() == 'a\nc\nonly_voc\n'


def test_voc_names_missing_and_damaged_files(tool_main, tool_module, tmp_path: Path, capsys) -> None:
    pytest.importorskip('scipy')
    assert tool_main(VOC_TOOL)(tmp_path, tmp_path) == 1
    assert 'unpack benchmark.tgz of SBD' in capsys.readouterr().err
    (tmp_path / 'a.mat').write_bytes(b'no mat file')
    with pytest.raises(ValueError, match='a.mat is not an SBD mask'):
        tool_module(VOC_TOOL).convert(tmp_path / 'a.mat', tmp_path)


def test_pascal_context(tool_main, tool_module, tmp_path: Path, capsys) -> None:
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
    assert tool_main(CONTEXT_TOOL)(tmp_path) == 0
    assert 'train: 1 of 4998 masks' in capsys.readouterr().out
    masks = tmp_path / 'SegmentationClassContext'
    assert sorted(path.name for path in masks.iterdir()) == ['2008_000002.png', '2008_000003.png']
    assert read(masks / '2008_000002.png').tolist() == [[1, 59, 59, 0]] * 2
    lists = tmp_path / 'ImageSets' / 'SegmentationContext'
    assert (lists / 'val.txt').read_text() == '2008_000003\n'
    with pytest.raises(ValueError, match='category 7 is not one of the 59'):
        tool_module(CONTEXT_TOOL).paint(images[0], [dict(annotations[0], category_id=7)])


def test_pascal_context_names_missing_and_wrong_files(tool_main, tmp_path: Path, capsys) -> None:
    assert tool_main(CONTEXT_TOOL)(tmp_path) == 1
    assert 'download trainval_merged.json of PASCAL in Detail' in capsys.readouterr().err
    (tmp_path / 'other.json').write_text('{}')
    assert tool_main(CONTEXT_TOOL)(tmp_path, '--json', tmp_path / 'other.json') == 1
    assert 'other.json is not trainval_merged.json' in capsys.readouterr().err
