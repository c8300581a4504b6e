"""Confusion matrix, scores computed from it, and their table."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpt.evaluation.maps import size_text
from dpt.structures import IGNORE_INDEX

IOU_METRICS = ('mIoU', 'mDice', 'mFscore')
SHOWN = 10
"""Number of wrong labels in a message."""
NAMED_ABSENT = 8
"""Maximum number of classes without pixels that a table names."""


def confusion_matrix(
    prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Count the pixels for each pair of true and predicted class.

    Args:
        prediction: Predicted labels of shape HxW, any integer dtype.
        label: True labels of shape HxW, any integer dtype; moved to the device of ``prediction``.
        num_classes: Number of classes K.
        ignore_index: True label of ignored pixels.

    Returns:
        int64 counts of shape KxK on the device of ``prediction``; rows are the ground truth, columns the
        prediction.

    Raises:
        ValueError: If the sizes differ, a dtype is not an integer, or a value is outside 0..K-1 and, in
            ``label``, not ``ignore_index``.
    """
    if prediction.shape != label.shape:
        sizes = f'{size_text(prediction)} pixels and the label {size_text(label)} (height x width)'
        raise ValueError(f'the prediction has {sizes}, but both must have the size of the original image')
    for name, values in (('prediction', prediction), ('label', label)):
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
            raise ValueError(f'the {name} must hold integers, not {values.dtype}')
    label = label.to(prediction.device)
    if prediction.dtype == label.dtype == torch.uint8 and num_classes <= 256:
        return _count_bytes(prediction, label, num_classes, ignore_index)
    prediction, label = prediction.flatten().long(), label.flatten().long()
    ignored = label == ignore_index
    bad_label = ((label < 0) | (label >= num_classes)) & ~ignored
    bad_prediction = (prediction < 0) | (prediction >= num_classes)
    if (bad_label | bad_prediction).any():  # a single synchronisation unless there is an error
        raise _out_of_range(label[bad_label], prediction[bad_prediction], num_classes, ignore_index)
    # An extra bin for ignored pixels is cheaper than selecting the other pixels of both maps.
    cells = torch.where(ignored, num_classes**2, label * num_classes + prediction)
    counts = torch.bincount(cells, minlength=num_classes**2 + 1)
    return counts[:-1].reshape(num_classes, num_classes)


def _count_bytes(prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Count all 256x256 pairs of bytes, so that errors are detected in the counts instead of every pixel."""
    cells = (label.to(torch.int32) << 8) | prediction
    counts = torch.bincount(cells.flatten(), minlength=1 << 16).reshape(256, 256)
    inside = counts[:num_classes, :num_classes].clone()
    if 0 <= ignore_index < 256:
        # Predictions at ignored pixels must also be valid classes, but are not counted.
        ignored = counts[ignore_index, :num_classes].sum()
        if ignore_index < num_classes:
            inside[ignore_index] = 0
    else:
        ignored = counts.new_zeros(())
    if inside.sum() + ignored != label.numel():  # a single synchronisation unless there is an error
        values = torch.arange(256, device=counts.device)
        bad_label = (counts.sum(dim=1) > 0) & (values >= num_classes) & (values != ignore_index)
        bad_prediction = (counts.sum(dim=0) > 0) & (values >= num_classes)
        raise _out_of_range(values[bad_label], values[bad_prediction], num_classes, ignore_index)
    return inside


def _out_of_range(labels: Tensor, predictions: Tensor, num_classes: int, ignore_index: int) -> ValueError:
    if labels.numel():
        return ValueError(
            f'label values {_some(labels)} are neither in 0..{num_classes - 1} nor '
            f'ignore_index {ignore_index}: check classes, reduce_zero_label and label_map of the dataset'
        )
    return ValueError(
        f'predicted values {_some(predictions)} are not in 0..{num_classes - 1}: '
        f'num_classes of the head differs from the classes of the dataset'
    )


def _some(values: Tensor) -> str:
    unique = values.unique().tolist()
    return str(unique[:SHOWN]) + (f' and {len(unique) - SHOWN} more' if len(unique) > SHOWN else '')


def segmentation_metrics(
    confusion: Tensor | np.ndarray,
    metrics: Sequence[str] = ('mIoU',),
    beta: float = 1,
    left_out: int | None = None,
) -> dict[str, np.ndarray]:
    """Compute scores between 0 and 1 from a confusion matrix; 0 / 0 is NaN.

    Args:
        confusion: Pixel counts of shape KxK; rows are the ground truth, columns the prediction.
        metrics: Any of 'mIoU' (IoU, Acc), 'mDice' (Dice, Acc) and 'mFscore' (Fscore, Precision, Recall).
        beta: Weight of recall relative to precision in the F-score.
        left_out: Class whose scores are NaN, because its pixels were not counted.

    Returns:
        ``aAcc``, the share of correct labelled pixels, as a 0-dimensional float64 array, and the scores of
        ``metrics`` as float64 arrays of shape K.
    """
    check_metrics(metrics)
    counts = torch.as_tensor(confusion).cpu().numpy().astype(np.float64)
    hits, truth, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    scores = {}
    with np.errstate(divide='ignore', invalid='ignore'):
        scores['aAcc'] = np.asarray(hits.sum() / truth.sum())
        recall, precision = hits / truth, hits / predicted
        if 'mIoU' in metrics:
            scores |= {'IoU': hits / (truth + predicted - hits), 'Acc': recall}
        if 'mDice' in metrics:
            scores |= {'Dice': 2 * hits / (truth + predicted), 'Acc': recall}
        if 'mFscore' in metrics:
            fscore = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
            scores |= {'Fscore': fscore, 'Precision': precision, 'Recall': recall}
    if left_out is not None:
        for name in set(scores) - {'aAcc'}:
            scores[name][left_out] = np.nan
    return scores


def check_metrics(metrics: Sequence[str]) -> None:
    """Raise ValueError for an empty list or names that are not in ``IOU_METRICS``."""
    unknown = [name for name in metrics if name not in IOU_METRICS]
    if unknown or not metrics:
        raise ValueError(f'iou_metrics must be some of {IOU_METRICS}, not {tuple(metrics)}')


def score_table(per_class: dict[str, list], means: dict[str, float]) -> str:
    """Return a table of pixels and scores by class, the means, and the names of absent classes."""
    names, pixels = per_class['Class'], per_class['pixels']
    scores = [name for name in per_class if name not in ('Class', 'pixels')]
    width = min(max(len(name) for name in (*names, 'class')), 32)

    def row(name: str, values: list[float | None]) -> str:
        shown = name if len(name) <= width else name[: width - 3] + '...'
        cells = ['-' if value is None or np.isnan(value) else f'{value:.2f}' for value in values]
        return f'{shown:<{width}}' + ''.join(f'{cell:>11}' for cell in cells)

    total = max(sum(pixels), 1)
    header = f'{"class":<{width}}' + ''.join(f'{name:>11}' for name in ('pixels %', *scores))
    body = [
        row(name, [100 * pixels[i] / total, *(per_class[score][i] for score in scores)])
        for i, name in enumerate(names)
    ]
    mean = row('mean', [None, *(means['m' + score] for score in scores)])
    rule = '-' * len(header)
    lines = ['', header, rule, *body, rule, mean, f'aAcc {means["aAcc"]:.2f}']
    absent = [name for name, count in zip(names, pixels, strict=True) if not count]
    if absent:
        some = ', '.join(absent[:NAMED_ABSENT]) + (', ...' if len(absent) > NAMED_ABSENT else '')
        lines.append(f'{len(absent)} of {len(names)} classes have no pixels in the ground truth: {some}')
    return '\n'.join(lines)
