"""Metrics of semantic segmentation."""

from dpt.evaluation.confusion import confusion_matrix, segmentation_metrics
from dpt.evaluation.iou import IoUMetric
from dpt.evaluation.scores import Scores

__all__ = ['IoUMetric', 'Scores', 'confusion_matrix', 'segmentation_metrics']
