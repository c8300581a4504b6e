"""Data sets and the transforms of their pipelines."""

import mmcv.transforms  # noqa: F401  registers Resize, RandomResize, RandomFlip, TestTimeAug

from dpt.datasets.ade20k import ADE20KDataset
from dpt.datasets.camvid import CamVidDataset
from dpt.datasets.segmentation import BaseSegDataset
from dpt.datasets.transforms import (
    LoadAnnotations,
    LoadImageFromFile,
    PackSegInputs,
    PhotoMetricDistortion,
    RandomCrop,
    ResizeToMultiple,
)

__all__ = [
    'ADE20KDataset',
    'BaseSegDataset',
    'CamVidDataset',
    'LoadAnnotations',
    'LoadImageFromFile',
    'PackSegInputs',
    'PhotoMetricDistortion',
    'RandomCrop',
    'ResizeToMultiple',
]
