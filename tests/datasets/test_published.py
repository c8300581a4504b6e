"""Published data sets: classes, colours and labels."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dpt.datasets import (
    ADE20KDataset,
    BDD100KDataset,
    ChaseDB1Dataset,
    CityscapesDataset,
    COCOStuffDataset,
    DarkZurichDataset,
    DRIVEDataset,
    HRFDataset,
    ISPRSDataset,
    LoveDADataset,
    NightDrivingDataset,
    PascalContextDataset,
    PascalContextDataset59,
    PascalVOCDataset,
    PotsdamDataset,
    REFUGEDataset,
    STAREDataset,
    SynapseDataset,
    iSAIDDataset,
)

COUNTS = {
    BDD100KDataset: 19,
    ChaseDB1Dataset: 2,
    CityscapesDataset: 19,
    COCOStuffDataset: 171,
    DRIVEDataset: 2,
    DarkZurichDataset: 19,
    HRFDataset: 2,
    ISPRSDataset: 6,
    LoveDADataset: 7,
    NightDrivingDataset: 19,
    PascalContextDataset: 60,
    PascalContextDataset59: 59,
    PascalVOCDataset: 21,
    PotsdamDataset: 6,
    REFUGEDataset: 3,
    STAREDataset: 2,
    SynapseDataset: 9,
    iSAIDDataset: 16,
}
WITH_UNIQUE_COLOURS = set(COUNTS) - {COCOStuffDataset, PascalContextDataset, PascalContextDataset59}


@pytest.mark.parametrize('dataset', COUNTS)
def test_each_class_has_unique_name_and_colour(dataset: type) -> None:
    classes, palette = dataset.METAINFO['classes'], dataset.METAINFO['palette']
    assert len(set(classes)) == len(palette) == COUNTS[dataset]
    assert all(len(colour) == 3 and max(colour) < 256 for colour in palette)
    if dataset in WITH_UNIQUE_COLOURS:
        assert len({tuple(colour) for colour in palette}) == COUNTS[dataset]


def test_known_names_and_colours() -> None:
    voc = dict(zip(PascalVOCDataset.METAINFO['classes'], PascalVOCDataset.METAINFO['palette'], strict=True))
    assert voc['background'] == [0, 0, 0]
    assert (voc['bicycle'], voc['person'], voc['tvmonitor']) == ([0, 128, 0], [192, 128, 128], [0, 64, 128])
    city = CityscapesDataset.METAINFO
    assert city['classes'][13] == 'car'
    assert city['palette'][13] == [0, 0, 142]
    context = PascalContextDataset.METAINFO['classes'][1:]
    assert list(context) == sorted(context)
    assert PascalContextDataset59.METAINFO['palette'] == ADE20KDataset.METAINFO['palette'][1:60]


def test_known_names_and_colours_of_aerial_and_stuff_images() -> None:
    stuff = COCOStuffDataset.METAINFO
    assert (stuff['classes'][0], stuff['classes'][91], stuff['classes'][170]) == (
        'person',
        'ceiling-tile',
        'wood',
    )
    assert (stuff['palette'][0], stuff['palette'][170]) == ([0, 192, 64], [64, 64, 0])
    assert dict(zip(iSAIDDataset.METAINFO['classes'], iSAIDDataset.METAINFO['palette'], strict=True))[
        'Harbor'
    ] == [0, 100, 155]
    assert LoveDADataset.METAINFO['palette'][6] == [255, 195, 128]
    assert ISPRSDataset.METAINFO == PotsdamDataset.METAINFO
    assert PotsdamDataset.METAINFO['classes'][4] == 'car'


@pytest.mark.parametrize(
    ('dataset', 'image', 'mask', 'stored', 'expected'),
    [
        (LoveDADataset, '1.png', '1.png', [0, 1, 7], [255, 0, 6]),
        (PotsdamDataset, 'a.png', 'a.png', [0, 1, 6], [255, 0, 5]),
        (ISPRSDataset, 'a.png', 'a.png', [0, 1, 6], [255, 0, 5]),
        (iSAIDDataset, 'P0.png', 'P0_instance_color_RGB.png', [0, 15, 255], [0, 15, 255]),
        (COCOStuffDataset, '9.jpg', '9_labelTrainIds.png', [0, 170, 255], [0, 170, 255]),
        (BDD100KDataset, 'a.jpg', 'a.png', [0, 18, 255], [0, 18, 255]),
        (ChaseDB1Dataset, 'Image_01L.png', 'Image_01L_1stHO.png', [0, 1, 0], [0, 1, 0]),
        (DRIVEDataset, '21_training.png', '21_training_manual1.png', [0, 1, 0], [0, 1, 0]),
        (HRFDataset, '01_dr.png', '01_dr.png', [0, 1, 0], [0, 1, 0]),
        (REFUGEDataset, 'g0001.png', 'g0001.png', [0, 1, 2], [0, 1, 2]),
        (STAREDataset, 'im0001.png', 'im0001.ah.png', [0, 1, 0], [0, 1, 0]),
        (SynapseDataset, 'case0005_slice000.jpg', 'case0005_slice000.png', [0, 1, 8], [0, 1, 8]),
        (DarkZurichDataset, 'G_rgb_anon.png', 'G_gt_labelTrainIds.png', [0, 18, 255], [0, 18, 255]),
        (
            NightDrivingDataset,
            '0_leftImg8bit.png',
            '0_gtCoarse_labelTrainIds.png',
            [0, 18, 255],
            [0, 18, 255],
        ),
    ],
)
def test_files_and_labels_are_those_of_mmsegmentation(
    dataset, image, mask, stored, expected, tmp_path
) -> None:
    write(tmp_path / 'img_dir' / image, np.zeros((1, 3, 3), np.uint8))
    write(tmp_path / 'ann_dir' / mask, np.array([stored], np.uint8))
    folders = dict(img_path='img_dir', seg_map_path='ann_dir')
    found = dataset(data_root=str(tmp_path), data_prefix=folders, pipeline=[dict(type='LoadAnnotations')])
    assert found[0]['gt_seg_map'].tolist() == [expected]


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def test_cityscapes_pairs_images_with_train_ids(tmp_path: Path) -> None:
    name = 'leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png'
    write(tmp_path / name, np.zeros((4, 8, 3), np.uint8))
    mask = name.replace('leftImg8bit/', 'gtFine/').replace('_leftImg8bit', '_gtFine_labelTrainIds')
    write(tmp_path / mask, np.full((4, 8), 18, np.uint8))
    folders = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
    dataset = CityscapesDataset(
        data_root=str(tmp_path), data_prefix=folders, pipeline=[dict(type='LoadAnnotations')]
    )
    assert len(dataset) == 1
    assert (dataset[0]['gt_seg_map'] == 18).all()


def test_pascal_context_background_is_class_or_ignored(tmp_path: Path) -> None:
    write(tmp_path / 'JPEGImages' / '2008_000002.jpg', np.zeros((1, 3, 3), np.uint8))
    write(tmp_path / 'Masks' / '2008_000002.png', np.array([[0, 1, 59]], np.uint8))
    given = dict(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='JPEGImages', seg_map_path='Masks'),
        pipeline=[dict(type='LoadAnnotations')],
    )
    assert PascalContextDataset(**given)[0]['gt_seg_map'].tolist() == [[0, 1, 59]]
    assert PascalContextDataset59(**given)[0]['gt_seg_map'].tolist() == [[255, 0, 58]]


def test_voc_needs_split_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match='ann_file'):
        PascalVOCDataset(data_root=str(tmp_path))
