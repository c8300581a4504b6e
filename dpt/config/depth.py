"""Compare what the model, the data sets and the metrics of a config say about depth."""

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset

from dpt.config.facts import argument
from dpt.config.parts import Problem, is_own
from dpt.config.probe_depth import has_depth
from dpt.registry import MODELS

TRUTHS = {'gt_depth_map': 'depth', 'gt_sem_seg': 'labels'}
METRICS_OF = {'depth': 'DepthMetric', 'labels': 'IoUMetric'}
TTA_OF = {'depth': 'DepthTTAModel', 'labels': 'SegTTAModel'}


def check_depth(config: Config, datasets: Mapping[str, BaseDataset]) -> Iterator[Problem]:
    """Compare the model with the data sets, the metrics and the test-time augmentation.

    Args:
        config: The whole config.
        datasets: Data sets, built without reading files, by dotted key. Those of users are not checked.
    """
    model = config.model.get('module', config.model)
    kind = MODELS.get(model['type']) if isinstance(model.get('type'), str) else model.get('type')
    predicts = TRUTHS.get(str(getattr(kind, 'ground_truth', None)))
    if predicts is None or not is_own(kind):
        return
    name = getattr(kind, '__name__', '')
    for key, built in datasets.items():
        has = 'depth' if has_depth(built) else 'labels' if hasattr(built, 'ignore_index') else None
        if has not in (None, predicts) and is_own(type(built)):
            yield f'{key}.type', f'{type(built).__name__} has {has}, but model.type={name} needs {predicts}'
    for key, metric in _metrics(config):
        other = next((one for one in METRICS_OF.items() if one[1] == metric.get('type')), None)
        if other is not None and other[0] != predicts:
            yield (
                f'{key}.type',
                f'{other[1]} scores {other[0]}, but model.type={name} predicts {predicts}: use '
                f'{METRICS_OF[predicts]}',
            )
        elif predicts == 'depth' and metric.get('type') == METRICS_OF['depth']:
            yield from _check_metric(key, metric, model)
    tta = config.get('tta_model') or {}
    if tta.get('type') in TTA_OF.values() and tta.get('type') != TTA_OF[predicts]:
        yield 'tta_model.type', f'{tta["type"]}, but model.type={name} needs {TTA_OF[predicts]}'


def _metrics(config: Config) -> Iterator[tuple[str, Mapping]]:
    for key in ('val_evaluator', 'test_evaluator'):
        value: Any = config.get(key)
        if isinstance(value, Mapping) and 'metrics' in value:
            value = value['metrics']
        many = isinstance(value, (list, tuple))
        for number, one in enumerate(value if many else [value]):
            if isinstance(one, Mapping):
                yield f'{key}.{number}' if many else key, one


def _check_metric(key: str, metric: Mapping, model: Mapping) -> Iterator[Problem]:
    head = model.get('decode_head')
    relative = argument(head, 'relative')
    losses = model.get('loss')
    for loss in losses if isinstance(losses, (list, tuple)) else [losses]:
        if relative and isinstance(loss, Mapping) and argument(loss, 'invert_target') is False:
            yield (
                key,
                f'DepthMetric compares depth, but {loss.get("type")}(invert_target=False) means that the '
                'files contain inverse depth: convert them to depth, 1 / inverse depth, and remove '
                'invert_target=False',
            )
    if relative is not None and bool(relative) != bool(metric.get('inverse')):
        remedy = (
            "set inverse=True and alignment='least_squares_disparity'" if relative else 'remove inverse=True'
        )
        what = 'inverse depth without a scale' if relative else 'depth'
        yield key, f'model.decode_head.relative={relative}, so the model predicts {what}: {remedy}'
    farthest, evaluated = argument(head, 'max_depth'), metric.get('max_depth_eval')
    if farthest is not None and evaluated is not None and isfinite(evaluated) and evaluated > farthest:
        yield (
            f'{key}.max_depth_eval',
            f'{evaluated}, but model.decode_head.max_depth={farthest} is the largest depth that the model '
            'can predict',
        )
