"""How good predictions are: a confusion matrix and the scores read from it."""

from .iou import IoUMetric, confusion_matrix, segmentation_metrics

__all__ = ['IoUMetric', 'confusion_matrix', 'segmentation_metrics']
