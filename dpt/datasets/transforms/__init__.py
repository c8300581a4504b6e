"""Transforms of the ``pipeline`` of a config, which load, augment and pack one sample.

Each transform takes and returns the dict of a sample. Random numbers come from numpy's global state.
"""

from dpt.datasets.transforms.albu import Albu
from dpt.datasets.transforms.depth import LoadDepthAnnotation
from dpt.datasets.transforms.geometry import RandomCrop, RandomResizeByRatio, ResizeToMultiple
from dpt.datasets.transforms.intensity import CLAHE, AdjustGamma, Rerange, RGB2Gray
from dpt.datasets.transforms.loading import LoadAnnotations, LoadImageFromFile
from dpt.datasets.transforms.packing import PackSegInputs
from dpt.datasets.transforms.photometric import PhotoMetricDistortion
from dpt.datasets.transforms.shape import RandomCutOut, RandomRotate, ResizeShortestEdge

__all__ = [
    'AdjustGamma',
    'Albu',
    'CLAHE',
    'LoadAnnotations',
    'LoadDepthAnnotation',
    'LoadImageFromFile',
    'PackSegInputs',
    'PhotoMetricDistortion',
    'RGB2Gray',
    'RandomCrop',
    'RandomCutOut',
    'RandomResizeByRatio',
    'RandomRotate',
    'Rerange',
    'ResizeShortestEdge',
    'ResizeToMultiple',
]
