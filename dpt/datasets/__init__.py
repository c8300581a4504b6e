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
    LoadAnnotations,
    LoadImageFromFile,
    PackSegInputs,
    PhotoMetricDistortion,
    RandomCrop,
    RandomResizeByRatio,
    ResizeToMultiple,
)

__all__ = [
    'ADE20KDataset',
    'BaseSegDataset',
    'CamVidDataset',
    'CityscapesDataset',
    'LoadAnnotations',
    'LoadImageFromFile',
    'PackSegInputs',
    'PascalContextDataset',
    'PascalContextDataset59',
    'PascalVOCDataset',
    'PhotoMetricDistortion',
    'RandomCrop',
    'RandomResizeByRatio',
    'ResizeToMultiple',
]
