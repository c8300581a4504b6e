"""Data sets and pipeline transforms."""

import mmcv.transforms  # noqa: F401 (registers Resize, RandomResize, RandomFlip, TestTimeAug)

from dpt.datasets.ade20k import ADE20KDataset
from dpt.datasets.aerial import ISPRSDataset, LoveDADataset, PotsdamDataset, iSAIDDataset
from dpt.datasets.published import (
    BDD100KDataset,
    CamVidDataset,
    CityscapesDataset,
    COCOStuffDataset,
    DarkZurichDataset,
    NightDrivingDataset,
    PascalContextDataset,
    PascalContextDataset59,
    PascalVOCDataset,
)
from dpt.datasets.segmentation import BaseSegDataset
from dpt.datasets.transforms import (
    CLAHE,
    AdjustGamma,
    Albu,
    LoadAnnotations,
    LoadDepthAnnotation,
    LoadImageFromFile,
    PackSegInputs,
    PhotoMetricDistortion,
    RandomCrop,
    RandomCutOut,
    RandomResizeByRatio,
    RandomRotate,
    Rerange,
    ResizeShortestEdge,
    ResizeToMultiple,
    RGB2Gray,
)

__all__ = [
    'ADE20KDataset',
    'AdjustGamma',
    'Albu',
    'BDD100KDataset',
    'BaseSegDataset',
    'CLAHE',
    'COCOStuffDataset',
    'CamVidDataset',
    'CityscapesDataset',
    'DarkZurichDataset',
    'ISPRSDataset',
    'LoadAnnotations',
    'LoadDepthAnnotation',
    'LoadImageFromFile',
    'LoveDADataset',
    'NightDrivingDataset',
    'PackSegInputs',
    'PascalContextDataset',
    'PascalContextDataset59',
    'PascalVOCDataset',
    'PhotoMetricDistortion',
    'PotsdamDataset',
    'RGB2Gray',
    'RandomCrop',
    'RandomCutOut',
    'RandomResizeByRatio',
    'RandomRotate',
    'Rerange',
    'ResizeShortestEdge',
    'ResizeToMultiple',
    'iSAIDDataset',
]
