"""IoU, Dice and F-score of semantic segmentation, with memory independent of the number of images."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from dpt.evaluation.confusion import (
    check_metrics,
    confusion_matrix,
    score_table,
    segmentation_metrics,
)
from dpt.evaluation.maps import map_of
from dpt.evaluation.scores import Scores, check_scores_file, image_scores
from dpt.evaluation.written import WrittenFiles, check_count
from dpt.registry import METRICS
from dpt.structures import IGNORE_INDEX


@METRICS.register_module()
class IoUMetric(BaseMetric):
    """Mean IoU, Dice or F-score over a data set, with a table of classes.

    Each process accumulates a KxK confusion matrix on the device of the predictions and an image count, which
    are summed over the processes at the end. K is the number of ``dataset_meta['classes']``.

    Scores are in percent and not rounded, so that runs can be compared exactly; the printed table is rounded.
    The score of a class that occurs in neither ground truth nor prediction is NaN and excluded from the mean;
    the IoU of a class that occurs only in predictions is 0.

    Args:
        ignore_index: None ignores the pixels without a class, by the ``ignore_index`` of the data set. The
            number of a class also leaves that class out of the table and the means, and the pixels that truly
            belong to it out of all counts.
        iou_metrics: Any of 'mIoU', 'mDice', 'mFscore'.
        nan_to_num: Replacement for scores (between 0 and 1) that are NaN; None excludes them from means.
        beta: Weight of recall relative to precision in the F-score.
        collect_device: 'cpu' or 'gpu'; accepted for compatibility with MMSegmentation. The backend chooses
            the device.
        output_dir: Folder for the predictions, which are written as one-channel ``<image stem>.png``.
        format_only: Whether to write predictions without computing scores; requires ``output_dir``.
        label_offset: Added to the written labels; 1 gives the format of the ADE20K server.
        scores_file: ``.npz`` file for the confusion matrix and the scores of each image, see
            :class:`Scores`; each evaluation replaces it.
        prefix: Prefix of the names of the scores, followed by a slash.

    Attributes:
        per_class: Results of the last evaluation as columns for JSON: 'Class' (names), 'pixels' (true pixels)
            and the scores in percent, None for NaN. Empty before the first evaluation.
    """

    default_prefix = ''  # mmengine logs a warning if it is None

    def __init__(
        self,
        ignore_index: int | None = None,
        iou_metrics: str | Sequence[str] = ('mIoU',),
        *,
        nan_to_num: float | None = None,
        beta: float = 1,
        collect_device: str = 'cpu',
        output_dir: str | None = None,
        format_only: bool = False,
        label_offset: int = 0,
        scores_file: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.metrics = (iou_metrics,) if isinstance(iou_metrics, str) else tuple(iou_metrics)
        check_metrics(self.metrics)
        if collect_device not in ('cpu', 'gpu'):
            raise ValueError(f"collect_device must be 'cpu' or 'gpu', not {collect_device!r}")
        if format_only and output_dir is None:
            raise ValueError('format_only=True requires output_dir, the folder for the predictions')
        if label_offset < 0:
            raise ValueError(f'label_offset must be 0 or more, not {label_offset}')
        check_scores_file(scores_file)
        self.ignore_index = ignore_index
        self.nan_to_num = nan_to_num
        self.beta = beta
        self.output_dir = output_dir
        self.format_only = format_only
        self.label_offset = label_offset
        self.scores_file = scores_file
        self.per_class: dict[str, list] = {}
        self._reset()

    def _reset(self) -> None:
        self._confusion: Tensor | None = None
        self._num_samples = 0
        self._written = WrittenFiles()
        self._images: list[str] = []
        self._image_scores: list[Tensor] = []

    @property
    def classes(self) -> Sequence[str]:
        """The class names of the data set."""
        classes = (self.dataset_meta or {}).get('classes')
        if not classes:
            raise ValueError('IoUMetric needs class names: set metainfo=dict(classes=...) in the dataset')
        return classes

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the scores that :meth:`evaluate` returns."""
        if self.format_only:
            return ()
        scores = segmentation_metrics(torch.ones(1, 1, dtype=torch.int64), self.metrics, self.beta)
        names = [name if name == 'aAcc' else 'm' + name for name in scores]
        return tuple(f'{self.prefix}/{name}' if self.prefix else name for name in names)

    @property
    def left_out(self) -> int | None:
        """The class that ``ignore_index`` leaves out."""
        given = self.ignore_index
        return given if given is not None and 0 <= given < len(self.classes) else None

    def _void_label(self) -> int:
        """Return the true label of pixels without a class; -1 if there is none."""
        if self.ignore_index is not None and self.left_out is None:
            return self.ignore_index
        void = (self.dataset_meta or {}).get('ignore_index', IGNORE_INDEX)
        return void if void >= len(self.classes) else -1

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch.

        Args:
            data_batch: Not used.
            data_samples: A dict per image with ``img_path``, ``pred_sem_seg`` and, unless ``format_only``,
                ``gt_sem_seg``, both dicts with ``data`` of shape 1xHxW.

        Raises:
            ValueError: If the ground truth is missing, or as :func:`confusion_matrix`. The message names the
                image.
        """
        for sample in data_samples:
            path = sample.get('img_path')
            try:
                prediction = map_of(sample, 'pred_sem_seg')
                if not self.format_only:
                    label = map_of(sample, 'gt_sem_seg', 'LoadAnnotations')
                    counts = confusion_matrix(prediction, label, len(self.classes), self._void_label())
                    if self.left_out is not None:
                        counts[self.left_out] = 0
                    self._confusion = counts if self._confusion is None else self._confusion + counts
                    if self.scores_file is not None:
                        self._images.append(str(path or ''))
                        self._image_scores.append(image_scores(counts, self.left_out))
                if self.output_dir is not None:
                    self._write(prediction, path)
            except ValueError as error:
                raise ValueError(f'{path or "image of unknown path"}: {error}') from error
            self._num_samples += 1

    def _write(self, prediction: Tensor, path: str | None) -> None:
        file = self._written.add(str(self.output_dir), path, '.png')
        fits = len(self.classes) + self.label_offset <= 256
        labels = prediction.cpu().numpy().astype(np.int64) + self.label_offset
        _, png = cv2.imencode('.png', labels.astype(np.uint8 if fits else np.uint16))
        file.write_bytes(png.tobytes())

    def evaluate(self, size: int) -> dict[str, float]:
        """Sum the counts over the processes, compute the scores, print the table and reset the counts.

        Returns:
            aAcc and the means over the classes in percent, equal in all processes; empty if ``format_only``.

        Raises:
            ValueError: If the number of images over all processes is not ``size``, the length of the data
                set, or if two images have the same stem and ``output_dir`` is set.
        """
        try:
            if self.output_dir is not None:
                self._written.check_processes(self.output_dir)
            confusion, num_samples = self._summed()
            check_count(num_samples, size, self.format_only)
            scores = self.compute_metrics([confusion])
            if self.scores_file is not None and not self.format_only:
                self._save_scores(self.scores_file, confusion)
        finally:
            self._reset()
        return {f'{self.prefix}/{name}' if self.prefix else name: value for name, value in scores.items()}

    def _save_scores(self, path: str, confusion: Tensor) -> None:
        own = torch.stack(self._image_scores).cpu() if self._image_scores else torch.zeros(0, 2)
        gathered = all_gather_object((self._images, own))
        if is_main_process():
            images = [image for names, _ in gathered for image in names]
            accuracy, miou = torch.cat([values for _, values in gathered]).numpy().T
            classes = list(self.classes)
            Scores(classes, confusion.numpy(), images, accuracy, miou, self.left_out).save(path)
            print_log(f'wrote the confusion matrix and the scores of each image to {path}', logger='current')

    def _summed(self) -> tuple[Tensor, int]:
        shape = (len(self.classes), len(self.classes))
        confusion = torch.zeros(shape, dtype=torch.int64) if self._confusion is None else self._confusion
        sums = torch.cat([confusion.flatten(), confusion.new_tensor([self._num_samples])])
        all_reduce(sums)
        return sums[:-1].reshape(shape).cpu(), int(sums[-1])

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the scores from the sum of the confusion matrices of shape KxK."""
        self.per_class = {}
        if self.format_only:
            return {}
        confusion = torch.stack(results).sum(dim=0)
        scores = segmentation_metrics(confusion, self.metrics, self.beta, self.left_out)
        scored = [label for label in range(len(self.classes)) if label != self.left_out]
        scores = {name: values if name == 'aAcc' else values[scored] for name, values in scores.items()}
        if self.nan_to_num is not None:
            scores = {name: np.nan_to_num(values, nan=self.nan_to_num) for name, values in scores.items()}
        means = {'aAcc': 100 * float(scores.pop('aAcc'))}
        self.per_class = {
            'Class': [self.classes[label] for label in scored],
            'pixels': confusion.sum(dim=1)[scored].tolist(),
        }
        for name, values in scores.items():
            means['m' + name] = 100 * float(torch.from_numpy(values).nanmean())
            self.per_class[name] = [None if np.isnan(value) else 100 * float(value) for value in values]
        table = score_table(self.per_class, means)
        if self.left_out is not None:
            table += f'\nwithout the class {self.classes[self.left_out]} (ignore_index={self.left_out})'
        print_log(table, logger='current')
        return means
