"""Transforms of the ``pipeline`` of a config, which load, augment and pack one sample.

Each transform takes and returns the dict of a sample. Random numbers come from numpy's global state.
"""

from dpt.datasets.transforms.geometry import RandomCrop, RandomResizeByRatio, ResizeToMultiple
from dpt.datasets.transforms.loading import LoadAnnotations, LoadImageFromFile
from dpt.datasets.transforms.packing import PackSegInputs
from dpt.datasets.transforms.photometric import PhotoMetricDistortion

__all__ = [
    'LoadAnnotations',
    'LoadImageFromFile',
    'PackSegInputs',
    'PhotoMetricDistortion',
    'RandomCrop',
    'RandomResizeByRatio',
    'ResizeToMultiple',
]
