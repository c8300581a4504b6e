"""Metrics of semantic segmentation and depth estimation."""

from dpt.evaluation.confusion import confusion_matrix, segmentation_metrics
from dpt.evaluation.depth import DepthMetric
from dpt.evaluation.depth_scores import depth_scores
from dpt.evaluation.iou import IoUMetric
from dpt.evaluation.scores import DepthScores, Scores

__all__ = [
    'DepthMetric',
    'DepthScores',
    'IoUMetric',
    'Scores',
    'confusion_matrix',
    'depth_scores',
    'segmentation_metrics',
]
