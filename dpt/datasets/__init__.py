"""Data sets and pipeline transforms."""

import mmcv.transforms  # noqa: F401 (registers Resize, RandomResize, RandomFlip, TestTimeAug)

from dpt.datasets.ade20k import ADE20KDataset
from dpt.datasets.published import (
    CamVidDataset,
    CityscapesDataset,
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
    LoadImageFromFile,
    PackSegInputs,
    PhotoMetricDistortion,
    RandomCrop,
    RandomCutOut,
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
    'BaseSegDataset',
    'CLAHE',
    'CamVidDataset',
    'CityscapesDataset',
    'LoadAnnotations',
    'LoadImageFromFile',
    'PackSegInputs',
    'PascalContextDataset',
    'PascalContextDataset59',
    'PascalVOCDataset',
    'PhotoMetricDistortion',
    'RGB2Gray',
    'RandomCrop',
    'RandomCutOut',
    'RandomRotate',
    'Rerange',
    'ResizeShortestEdge',
    'ResizeToMultiple',
]
