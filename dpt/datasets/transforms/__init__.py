"""Transforms of the ``pipeline`` of a config, which load, augment and pack one sample.

Each transform takes and returns the dict of a sample. Random numbers come from numpy's global state.
"""

from dpt.datasets.transforms.albu import Albu
from dpt.datasets.transforms.depth import KBCrop, LoadDepthAnnotation, NYUCrop, ScaleDepth
from dpt.datasets.transforms.geometry import RandomCrop, RandomResizeByRatio, ResizeToMultiple
from dpt.datasets.transforms.intensity import CLAHE, AdjustGamma, Rerange, RGB2Gray
from dpt.datasets.transforms.loading import LoadAnnotations, LoadImageFromFile
from dpt.datasets.transforms.maps import CenterCrop, Pad, RandomFlip, Resize
from dpt.datasets.transforms.packing import PackSegInputs
from dpt.datasets.transforms.photometric import ColorAug, PhotoMetricDistortion
from dpt.datasets.transforms.shape import RandomCutOut, RandomRotate, ResizeShortestEdge, ResizeToBound

__all__ = [
    'AdjustGamma',
    'Albu',
    'CLAHE',
    'CenterCrop',
    'ColorAug',
    'KBCrop',
    'LoadAnnotations',
    'LoadDepthAnnotation',
    'LoadImageFromFile',
    'NYUCrop',
    'PackSegInputs',
    'Pad',
    'PhotoMetricDistortion',
    'RGB2Gray',
    'RandomCrop',
    'RandomCutOut',
    'RandomFlip',
    'RandomResizeByRatio',
    'RandomRotate',
    'Rerange',
    'Resize',
    'ResizeShortestEdge',
    'ResizeToBound',
    'ResizeToMultiple',
    'ScaleDepth',
]
