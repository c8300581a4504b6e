"""How good predictions are: a confusion matrix and the scores read from it."""

from dpt.evaluation.confusion import confusion_matrix, segmentation_metrics
from dpt.evaluation.iou import IoUMetric
from dpt.evaluation.scores import Scores

__all__ = ['IoUMetric', 'Scores', 'confusion_matrix', 'segmentation_metrics']
