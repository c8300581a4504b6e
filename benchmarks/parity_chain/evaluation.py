"""Link 5: the same predictions give the same confusion matrix and scores."""

import runpy
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch

from .inputs import IGNORE_INDEX, generator, labels
from .job import Arrays, Job
from .side import MMSegSide, Side
from .table import Row, absolute_difference

CLASSES = 12
ABSENT_IN_TRUTH, ABSENT_IN_PREDICTION, ABSENT_IN_BOTH = 3, 5, 7
SIZES = ((120, 160), (97, 203), (64, 64), (33, 71), (5, 5))
METRICS = ['mIoU', 'mDice', 'mFscore']
SCORES = ('IoU', 'Acc', 'Dice', 'Fscore', 'Precision', 'Recall')
SINGLE = 1e-6  # the reference divides in single precision

# Example in the documentation of mean_iou in Hugging Face's evaluate: predictions and truths.
EXAMPLE = (
    ([[1, 2], [3, 4], [5, 255]], [[0, 3], [5, 4], [6, 255]]),
    ([[2, 7], [9, 2], [3, 6]], [[1, 7], [9, 2], [3, 6]]),
    ([[2, 2, 3], [8, 2, 4], [3, 255, 2]], [[1, 2, 2], [8, 2, 1], [3, 255, 1]]),
)
EXAMPLE_CLASSES = 10
EXAMPLE_SCORES = dict(mIoU=0.47750000000000004, mAcc=0.5916666666666666, aAcc=0.5263157894736842)

Pairs = list[tuple[np.ndarray, np.ndarray]]


def seeded_pairs() -> Pairs:
    """Draw predictions and truths with ignored labels and absent classes; the last truth is all ignored."""
    pairs = []
    for i, size in enumerate(SIZES):
        draw = generator(f'evaluation{i}')
        truth = labels(f'evaluation{i}', size, classes=CLASSES, ignored=0.1)
        prediction = np.where(draw.random(size) < 0.6, truth % IGNORE_INDEX, draw.integers(0, CLASSES, size))
        truth[np.isin(truth, (ABSENT_IN_TRUTH, ABSENT_IN_BOTH))] = 0
        prediction[np.isin(prediction, (ABSENT_IN_PREDICTION, ABSENT_IN_BOTH))] = 1
        pairs.append((prediction, truth))
    pairs[-1][1][:] = IGNORE_INDEX
    return pairs


def example_pairs() -> Pairs:
    """Return the documented example; predictions of 255, all at ignored pixels, become class 0."""
    pairs = [(np.array(prediction), np.array(truth)) for prediction, truth in EXAMPLE]
    return [(np.where(prediction == IGNORE_INDEX, 0, prediction), truth) for prediction, truth in pairs]


def produce(side: Side) -> Iterator[tuple[str, Arrays]]:
    """Compute all scores with the evaluator of the config."""
    for case, pairs, classes in (
        ('seeded', seeded_pairs(), CLASSES),
        ('example', example_pairs(), EXAMPLE_CLASSES),
    ):
        metric = side.metrics.build(dict(side.config.val_evaluator, iou_metrics=METRICS))
        metric.dataset_meta = dict(classes=tuple(f'class {i}' for i in range(classes)))
        for prediction, truth in pairs:
            fields = [dict(data=torch.from_numpy(labels)[None]) for labels in (prediction, truth)]
            metric.process({}, [dict(zip(('pred_sem_seg', 'gt_sem_seg'), fields, strict=True))])
        scores = _our_scores if side.scope == 'dpt' else _their_scores
        yield case, scores(metric, pairs, classes)


def _our_scores(metric: object, pairs: Pairs, classes: int) -> dict[str, np.ndarray]:
    from dpt.evaluation.confusion import confusion_matrix, segmentation_metrics

    means = metric.evaluate(len(pairs))
    confusion = sum(confusion_matrix(*map(torch.from_numpy, pair), classes) for pair in pairs)
    scores = segmentation_metrics(confusion, METRICS)
    arrays = {'confusion': confusion.numpy(), **{name: np.asarray(values) for name, values in scores.items()}}
    arrays |= {f'mean.{name}': np.array(value) for name, value in means.items()}
    return arrays


def _their_scores(metric: object, pairs: Pairs, classes: int) -> dict[str, np.ndarray]:
    areas = [sum(area) for area in zip(*metric.results, strict=True)]
    scores = metric.total_area_to_metrics(*areas, metrics=METRICS)
    means = metric.compute_metrics(metric.results)
    arrays = {name: np.asarray(values) for name, values in scores.items()}
    arrays |= {f'mean.{name}': np.array(value) for name, value in means.items()}
    names = ('intersect', 'union', 'predicted', 'truth')
    arrays |= {f'area.{name}': area.numpy() for name, area in zip(names, areas, strict=True)}
    return arrays | {'confusion': _their_confusion_matrix(pairs, classes)}


def _their_confusion_matrix(pairs: Pairs, classes: int) -> np.ndarray:
    """Return the confusion matrix of MMSegmentation's analysis tool, because its metric has none."""
    tool = runpy.run_path(MMSegSide.shipped('.mim/tools/analysis_tools/confusion_matrix.py'), run_name='tool')

    class Truths(list):
        METAINFO = dict(classes=range(classes))
        ignore_index = IGNORE_INDEX
        reduce_zero_label = False

    truths = Truths(
        dict(data_samples=SimpleNamespace(gt_sem_seg=SimpleNamespace(data=torch.from_numpy(truth))))
        for _, truth in pairs
    )
    return tool['calculate_confusion_matrix'](truths, [prediction for prediction, _ in pairs])


def compare(case: str, theirs: Arrays, ours: Arrays, job: Job) -> list[Row]:
    """Return the rows of one case."""
    absent = 'ignored labels, classes absent in truth, prediction, both'
    what = f'{len(SIZES)} images, {absent}' if case == 'seeded' else "evaluate's mean_iou example"

    def row(measure: str, difference: float, tolerance: float, note: str = '') -> Row:
        return Row('evaluation', f'{what}: {measure}', difference, tolerance, note)

    rows = [row('confusion matrix, pixels', absolute_difference(theirs['confusion'], ours['confusion']), 0)]
    counts = ours['confusion']
    hits, truth, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    areas = dict(intersect=hits, union=truth + predicted - hits, predicted=predicted, truth=truth)
    difference = max(absolute_difference(theirs[f'area.{name}'], area) for name, area in areas.items())
    rows.append(row('areas that its metric counts, pixels', difference, 0))
    difference = max(absolute_difference(theirs[name], ours[name]) for name in (*SCORES, 'aAcc'))
    undefined = int(np.isnan(theirs['IoU']).sum())
    names = ', '.join(SCORES)
    rows.append(
        row(f'per class {names}; aAcc', difference, SINGLE, f'classes without IoU in both: {undefined}')
    )
    means = sorted(name for name in theirs if name.startswith('mean.'))
    difference = max(absolute_difference(theirs[name], np.round(ours[name], 2)) for name in means)
    rows.append(row('printed means, percent to two digits', difference, 1e-5))
    if case == 'example':
        found = {name: float(ours[f'mean.{name}']) / 100 for name in EXAMPLE_SCORES}
        difference = max(abs(found[name] - known) for name, known in EXAMPLE_SCORES.items())
        text = ', '.join(f'{name} {value:.6f}' for name, value in found.items())
        rows.append(row('the documented mIoU, mAcc, aAcc', difference, 1e-12, text))
    return rows
