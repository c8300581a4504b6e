"""Steps that read, change and pack one sample; they stand in a config's ``pipeline``.

Every step takes and returns the dict of one sample. What is random is drawn from numpy's global state.
"""

from dpt.datasets.transforms.geometry import RandomCrop, ResizeToMultiple
from dpt.datasets.transforms.image import LoadImageFromFile
from dpt.datasets.transforms.loading import LoadAnnotations
from dpt.datasets.transforms.packing import PackSegInputs
from dpt.datasets.transforms.photometric import PhotoMetricDistortion

__all__ = [
    'LoadAnnotations',
    'LoadImageFromFile',
    'PackSegInputs',
    'PhotoMetricDistortion',
    'RandomCrop',
    'ResizeToMultiple',
]
