"""Scores of depth maps over a data set."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmengine.dist import all_gather_object, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from dpt.evaluation.depth_scores import ALIGNMENTS, CROPS, SCORES, align, crop_window, depth_scores
from dpt.evaluation.maps import map_of, size_text
from dpt.evaluation.scores import DepthScores, check_scores_file
from dpt.evaluation.written import WrittenFiles, check_count
from dpt.registry import METRICS


@METRICS.register_module()
class DepthMetric(BaseMetric):
    """Scores of depth, computed for each image and averaged over the images.

    The names are those of MMSegmentation: ``d1``, ``d2``, ``d3`` (shares of pixels, more is better),
    ``abs_rel``, ``sq_rel``, ``rmse``, ``rmse_log``, ``log10``, ``silog``; and ``silog_kitti``, another
    definition, see :func:`~dpt.evaluation.depth_scores.depth_scores`. Only the scores of each image are kept,
    and their sums are correctly rounded, so that results depend neither on the number of processes nor on the
    order of images. Images without a valid pixel are left out, with a warning. ``DepthTTAModel`` averages
    over flipped images.

    Args:
        depth_metrics: Names of the scores to return; None means all.
        min_depth_eval: Pixels whose true depth is not above this are not counted; 0 never is.
        max_depth_eval: Pixels whose true depth is not below this are not counted.
        crop_type: Window to evaluate, or several, one inside the other: 'nyu_crop', 'kb_crop', 'garg_crop',
            'eigen_crop'. KITTI's usual protocol is ``['kb_crop', 'garg_crop']`` for predictions of whole
            images, and 'garg_crop' if the pipeline has ``KBCrop``.
        depth_clamp: Whether to clamp predictions to ``min_depth_eval`` and ``max_depth_eval``, as the
            Monocular-Depth-Estimation-Toolbox does in its model, and DINOv3.
        alignment: How each prediction is fitted to the truth before: None, 'median' (scale of depth),
            'least_squares' (scale and shift of depth) or 'least_squares_disparity' (of inverse depth). The
            last may leave inverse depth at or below 0, so depth is then capped at ``max_depth_eval``, as in
            MiDaS, or at the largest true depth of the image if there is no ``max_depth_eval``.
        inverse: Whether the model predicts inverse depth, such as Depth Anything without a metric head; needs
            an ``alignment``.
        output_dir: Folder for the predictions, which are written as ``<image stem>.npy`` (float32) or, with
            ``depth_scale_factor``, as ``.png``.
        depth_scale_factor: Write 16-bit PNG files of depth times this, such as 256 for KITTI's server.
        format_only: Whether to write predictions without computing scores; requires ``output_dir``.
        scores_file: ``.npz`` file for the scores of each image; each evaluation replaces it.
        collect_device: 'cpu' or 'gpu'; accepted for compatibility with MMSegmentation.
        prefix: Prefix of the names of the scores, followed by a slash.

    Raises:
        ValueError: If arguments are unknown or contradict each other.
    """

    default_prefix = ''  # mmengine logs a warning if it is None

    def __init__(
        self,
        depth_metrics: Sequence[str] | None = None,
        min_depth_eval: float = 0.0,
        max_depth_eval: float = math.inf,
        crop_type: str | Sequence[str] | None = None,
        *,
        depth_clamp: bool = False,
        alignment: str | None = None,
        inverse: bool = False,
        output_dir: str | None = None,
        depth_scale_factor: float | None = None,
        format_only: bool = False,
        scores_file: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.metrics = SCORES if depth_metrics is None else tuple(depth_metrics)
        self.crops = (crop_type,) if isinstance(crop_type, str) else tuple(crop_type or ())
        for name, given, known in (
            ('depth_metrics', self.metrics, SCORES),
            ('crop_type', self.crops, tuple(CROPS)),
            ('alignment', () if alignment is None else (alignment,), ALIGNMENTS),
        ):
            unknown = [one for one in given if one not in known]
            if unknown:
                raise ValueError(f'{name} has the unknown value {unknown[0]!r}; the values are {known}')
        if not 0 <= min_depth_eval < max_depth_eval:
            raise ValueError(
                f'min_depth_eval={min_depth_eval} must be at least 0 and below '
                f'max_depth_eval={max_depth_eval}'
            )
        if inverse and alignment is None:
            raise ValueError(
                "inverse=True requires an alignment, such as 'least_squares_disparity': inverse depth has no "
                'known scale'
            )
        if inverse and depth_scale_factor is not None:
            raise ValueError(
                'depth_scale_factor needs depth, but with inverse=True the model predicts inverse depth '
                'without a unit: omit it to write .npy files'
            )
        if format_only and output_dir is None:
            raise ValueError('format_only=True requires output_dir, the folder for the predictions')
        check_scores_file(scores_file)
        self.min_depth_eval = min_depth_eval
        self.max_depth_eval = max_depth_eval
        self.depth_clamp = depth_clamp
        self.alignment = alignment
        self.inverse = inverse
        self.output_dir = output_dir
        self.depth_scale_factor = depth_scale_factor
        self.format_only = format_only
        self.scores_file = scores_file
        self._reset()

    def _reset(self) -> None:
        self._images: list[str] = []
        self._scores: list[Tensor | None] = []  # None without a valid pixel
        self._written = WrittenFiles()

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the scores that :meth:`evaluate` returns."""
        if self.format_only:
            return ()
        return tuple(f'{self.prefix}/{name}' if self.prefix else name for name in self.metrics)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score one batch.

        Args:
            data_batch: Not used.
            data_samples: A dict per image with ``img_path``, ``pred_depth_map`` and, unless ``format_only``,
                ``gt_depth_map``, both dicts with ``data`` of shape 1xHxW.

        Raises:
            ValueError: If the truth is missing, sizes differ or a prediction is NaN. The message names the
                image.
        """
        for sample in data_samples:
            path = sample.get('img_path')
            try:
                prediction = map_of(sample, 'pred_depth_map').float()
                if not self.format_only:
                    truth = map_of(sample, 'gt_depth_map', 'LoadDepthAnnotation').float()
                    self._scores.append(self.score(prediction, truth))
                if self.output_dir is not None:
                    self._write(prediction, path)
            except ValueError as error:
                raise ValueError(f'{path or "image of unknown path"}: {error}') from error
            self._images.append(str(path or ''))

    def score(self, prediction: Tensor, truth: Tensor) -> Tensor | None:
        """Return the scores of a map in the order of ``SCORES``; None if no pixel is valid.

        Args:
            prediction: Predicted values of shape HxW.
            truth: True depth of shape HxW, 0 where nothing was measured.
        """
        if prediction.shape != truth.shape:
            raise ValueError(
                f'the prediction has {size_text(prediction)} pixels and the truth {size_text(truth)} '
                '(height x width), but both must have the size of the original image'
            )
        top, bottom, left, right = crop_window(self.crops, *truth.shape)
        window = truth[top:bottom, left:right].to(prediction)
        valid = (window > max(self.min_depth_eval, 0)) & (window < self.max_depth_eval)
        depth, true = prediction[top:bottom, left:right][valid], window[valid]
        if not len(true):
            return None
        if depth.isnan().any():
            raise ValueError(f'the prediction has {int(depth.isnan().sum())} pixels that are NaN')
        if self.alignment is not None:
            depth = align(depth, true, self.alignment, self.inverse)
        if self.alignment == 'least_squares_disparity':
            cap = self.max_depth_eval if math.isfinite(self.max_depth_eval) else float(true.max())
            depth = depth.clamp(max=cap)
        if self.depth_clamp:
            depth = depth.clamp(self.min_depth_eval, self.max_depth_eval)
        return depth_scores(depth, true)

    def _write(self, prediction: Tensor, path: str | None) -> None:
        suffix = '.npy' if self.depth_scale_factor is None else '.png'
        file = self._written.add(str(self.output_dir), path, suffix)
        depth = prediction.float().cpu().numpy()
        if self.depth_scale_factor is None:
            np.save(file, depth)
        else:
            scaled = np.rint(depth * self.depth_scale_factor).clip(0, np.iinfo(np.uint16).max)
            file.write_bytes(cv2.imencode('.png', scaled.astype(np.uint16))[1].tobytes())

    def evaluate(self, size: int) -> dict[str, float]:
        """Average the scores over the images of all processes, print them and reset.

        Returns:
            Scores by name, equal in all processes; empty if ``format_only``.

        Raises:
            ValueError: If the number of images over all processes is not ``size``, no image has a valid
                pixel, or two images have the same stem and ``output_dir`` is set.
        """
        try:
            if self.output_dir is not None:
                self._written.check_processes(self.output_dir)
            own = [None if one is None else one.cpu().tolist() for one in self._scores]
            gathered = all_gather_object((self._images, own))
            images = [image for names, _ in gathered for image in names]
            check_count(len(images), size, self.format_only)
            if self.format_only:
                return {}
            scores = self.compute_metrics([one for _, rows in gathered for one in rows], images)
            return {f'{self.prefix}/{name}' if self.prefix else name: scores[name] for name in self.metrics}
        finally:
            self._reset()

    def compute_metrics(self, results: list, images: Sequence[str] = ()) -> dict[str, float]:
        """Average the scores of images, each a list in the order of ``SCORES`` or None."""
        counted = [one for one in results if one is not None]
        without = [image for image, one in zip(images, results, strict=False) if one is None]
        if not counted:
            raise ValueError(
                f'no image has a pixel with a true depth from {self.min_depth_eval:g} to '
                f'{self.max_depth_eval:g} inside the crop {self.crops or None}: check depth_rescale_factor '
                'of the data set'
            )
        if without:
            print_log(
                f'{len(without)} of {len(results)} images have no valid pixel and do not count, such as '
                f'{without[0]}',
                'current',
                30,
            )
        # fsum is exact, so that the order and the processes do not matter.
        means = [_mean(values) for values in zip(*counted, strict=True)]
        scores = dict(zip(SCORES, means, strict=True))
        if not all(map(math.isfinite, means)):
            print_log(
                'some predictions are 0, negative or infinite, so that scores of logarithms are not finite: '
                'set depth_clamp=True, min_depth_eval above 0 and max_depth_eval',
                'current',
                30,
            )
        if self.scores_file is not None and is_main_process():
            nan = [math.nan] * len(SCORES)
            table = np.array([nan if one is None else one for one in results])
            DepthScores(list(SCORES), list(images), table).save(self.scores_file)
            print_log(f'wrote the scores of each image to {self.scores_file}', logger='current')
        print_log(self._table(scores, len(counted)), logger='current')
        return scores

    def _table(self, scores: dict[str, float], count: int) -> str:
        head = ''.join(f'{name:>12}' for name in self.metrics)
        row = ''.join(f'{scores[name]:>12.4f}' for name in self.metrics)
        aligned = f', aligned by {self.alignment}' if self.alignment else ''
        unit = '' if self.inverse else ' m'  # relative models are trained on depth of any unit
        protocol = (
            f'{count} images, true depth {self.min_depth_eval:g} to {self.max_depth_eval:g}{unit}, '
            f'crop {" and ".join(self.crops) or "none"}, clamped: {self.depth_clamp}{aligned}'
        )
        return '\n'.join(['', head, row, protocol])


def _mean(values: Sequence[float]) -> float:
    """Return the correctly rounded mean; infinite or NaN if a value is."""
    if not all(math.isfinite(value) for value in values):
        return float(np.mean(values))
    return math.fsum(values) / len(values)
