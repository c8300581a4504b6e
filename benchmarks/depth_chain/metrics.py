"""Depth scores against the code of the original repositories, with their crops, ranges and alignment."""

import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from depth_chain.table import Row, definitions, rows_of_clones
from dpt.evaluation import DepthMetric

LIMIT = 1e-5
"""Of each score; the originals compute in single precision."""

Pair = tuple[np.ndarray, np.ndarray]
"""Predicted and true depth of shape HxW; 0 where nothing was measured."""


def pairs(size: tuple[int, int], farthest: float) -> list[Pair]:
    """Return three pairs with holes, and with depth beyond the range."""
    found = []
    for seed in range(3):
        draw = np.random.default_rng(seed)
        truth = draw.uniform(0.3, 1.1 * farthest, size).astype(np.float32)
        prediction = (truth * draw.lognormal(0.1, 0.3, size)).astype(np.float32)
        truth[draw.random(size) < 0.4] = 0
        found.append((prediction, truth))
    return found


def ours(given: Sequence[Pair], **arguments: Any) -> dict[str, float]:
    """Evaluate ``DepthMetric``."""
    metric = DepthMetric(**arguments)
    for prediction, truth in given:
        maps = dict(pred_depth_map=prediction, gt_depth_map=truth)
        sample = {name: dict(data=torch.tensor(values)[None]) for name, values in maps.items()}
        metric.process(None, [dict(sample, img_path='x')])
    return metric.evaluate(len(given))


def compare(name: str, found: dict[str, float], expected: Sequence[dict[str, float]]) -> Row:
    """Return the largest relative difference of the scores that the reference has, averaged over images."""
    worst = 0.0
    for score in expected[0]:
        mean = float(np.mean([float(one[score]) for one in expected]))
        worst = max(worst, abs(found[score] - mean) / max(abs(mean), 1e-12))
    return Row(f'{name}: {", ".join(expected[0])}', worst, LIMIT)


def toolbox(folder: Path) -> list[Row]:
    """The Monocular-Depth-Estimation-Toolbox: clamped predictions, crops of NYU and KITTI."""
    scores = runpy.run_path(str(folder / 'depth' / 'core' / 'evaluation' / 'metrics.py'))['metrics']
    names = ('d1', 'd2', 'd3', 'abs_rel', 'rmse', 'log10', 'rmse_log', 'silog_kitti', 'sq_rel')
    rows = []
    cases: tuple[tuple[str, tuple, tuple, float, Any], ...] = (
        ('NYU', (480, 640), (slice(45, 471), slice(41, 601)), 10, 'nyu_crop'),
        ('KITTI', (352, 1216), (slice(143, 349), slice(43, 1172)), 80, 'garg_crop'),
    )
    for name, size, window, farthest, crop in cases:
        given = pairs(size, farthest)
        expected = []
        for prediction, truth in given:
            clamped = prediction.clip(1e-3, farthest)
            values = scores(truth[window], clamped[window], 1e-3, farthest)
            expected.append(dict(zip(names, values, strict=True)))
        found = ours(given, min_depth_eval=1e-3, max_depth_eval=farthest, crop_type=crop, depth_clamp=True)
        rows.append(compare(f'metrics of the toolbox, {name}', found, expected))
    return rows


def dinov3(folder: Path) -> list[Row]:
    """DINOv3: with and without alignment by least squares."""
    package = folder / 'dinov3' / 'eval' / 'depth'
    metrics = runpy.run_path(str(package / 'metrics.py'))
    utils = runpy.run_path(str(package / 'utils.py'))
    masks = runpy.run_path(str(package / 'datasets' / 'datasets_utils.py'))
    names = dict(a1='d1', a2='d2', a3='d3', log_10='log10', silog='silog_kitti')
    rows = []
    for aligned in (False, True):
        given, expected = pairs((480, 640), 10), []
        for prediction, truth in given:
            pred, gt = torch.tensor(prediction)[None, None], torch.tensor(truth)[None, None]
            gt = torch.where((gt >= 10) | (gt <= 1e-3), 0.0, gt)
            valid = masks['make_valid_mask'](gt, masks['_EvalCropType'].NYU_EIGEN)
            if aligned:
                pred = utils['align_depth_least_square'](gt, pred[0], valid)[0][None]
            values = metrics['calculate_depth_metrics'](gt, pred.clamp(1e-3, 10), valid)._asdict()
            values.pop('mae')
            expected.append({names.get(key, key): value for key, value in values.items()})
        protocol = dict(min_depth_eval=1e-3, max_depth_eval=10, crop_type='nyu_crop', depth_clamp=True)
        found = ours(given, **protocol, alignment='least_squares' if aligned else None)
        rows.append(compare(f'metrics of DINOv3{", aligned" if aligned else ""}', found, expected))
    return rows


def depth_anything(folder: Path) -> list[Row]:
    """Depth Anything V2: no clamp."""
    score = runpy.run_path(str(folder / 'metric_depth' / 'util' / 'metric.py'))['eval_depth']
    return [_without_clamp('metrics of Depth Anything V2', score)]


def mmsegmentation(folder: Path) -> list[Row]:
    """MMSegmentation: no clamp."""
    path = folder / 'mmseg' / 'evaluation' / 'metrics' / 'depth_metric.py'
    score = definitions(path, ('_calc_all_metrics',), torch=torch)['_calc_all_metrics']
    return [_without_clamp('metrics of MMSegmentation', lambda pred, truth: score(truth, pred))]


def _without_clamp(name: str, score: Callable) -> Row:
    given = pairs((97, 131), 10)
    expected = []
    for prediction, truth in given:
        valid = (truth > 1e-3) & (truth < 10)
        expected.append(score(torch.tensor(prediction[valid]), torch.tensor(truth[valid])))
    return compare(name, ours(given, min_depth_eval=1e-3, max_depth_eval=10), expected)


SOURCES: dict[str, Callable[[Path], list[Row]]] = {
    'toolbox': toolbox,
    'dinov3': dinov3,
    'depth-anything-v2': depth_anything,
    'mmsegmentation': mmsegmentation,
}


def rows() -> list[Row]:
    """Compare with the repositories that are there."""
    return rows_of_clones('metrics', SOURCES, LIMIT)
