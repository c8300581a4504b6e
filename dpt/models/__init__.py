"""Modules that configs build under ``model``."""

from dpt.models import backbones, heads, losses, necks  # noqa: F401  (registration)
from dpt.models.dense import DensePredictor
from dpt.models.depth_estimator import DepthEstimator
from dpt.models.preprocessor import SegDataPreProcessor
from dpt.models.segmentor import EncoderDecoder
from dpt.models.tta import AveragingTTAModel, DepthTTAModel, SegTTAModel

__all__ = [
    'AveragingTTAModel',
    'DensePredictor',
    'DepthEstimator',
    'DepthTTAModel',
    'EncoderDecoder',
    'SegDataPreProcessor',
    'SegTTAModel',
]
