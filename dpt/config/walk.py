"""Traverse the nested data sets and pipelines of a config."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

ANNOTATION_STEPS = ('LoadAnnotations', 'LoadDepthAnnotation', 'ScaleDepth')
"""Transforms that load annotations, or need them."""
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def named_datasets(dataset: dict | None, key: str) -> Iterator[tuple[str, dict]]:
    """Yield the data sets inside wrappers such as RepeatDataset and ConcatDataset, with their dotted keys.

    Raises:
        ValueError: If a data set is not a dict.
    """
    if dataset is None:
        return
    if not isinstance(dataset, Mapping):
        raise ValueError(
            f'{key}={dataset!r:.60}...: a data set must be a dict; for several data sets use '
            "dict(type='ConcatDataset', datasets=[...])"
        )
    if 'dataset' in dataset:
        yield from named_datasets(dataset['dataset'], f'{key}.dataset')
    elif 'datasets' in dataset:
        for number, one in enumerate(dataset['datasets']):
            yield from named_datasets(one, f'{key}.datasets.{number}')
    else:
        yield key, dataset


def innermost_datasets(dataset: dict | None) -> list[dict]:
    """Return the data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    return [one for _, one in named_datasets(dataset, 'dataset')]


def first_test_dataset(config: Config) -> dict:
    """Return the config of the first test data set."""
    return innermost_datasets(config.test_dataloader.dataset)[0]


def walk(value: Any, key: str = '') -> Iterator[tuple[str, dict]]:
    """Yield every dict in a value, including nested ones, with its dotted key."""
    if isinstance(value, dict):
        yield key, value
        items: Any = value.items()
    else:
        items = enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, one in items:
        yield from walk(one, f'{key}.{name}')


def transforms_of(pipeline: list) -> list[dict]:
    """Return the transforms of a pipeline, including those inside wrappers such as ``TestTimeAug``."""
    return [one for _, one in walk(pipeline) if 'type' in one]


def without_annotations(pipeline: list) -> list:
    """Return a pipeline without the ``ANNOTATION_STEPS``, including those inside ``TestTimeAug``."""
    kept: list = []
    for transform in pipeline:
        if isinstance(transform, (list, tuple)):
            views = without_annotations(list(transform))
            if views:
                kept.append(views)
        elif transform['type'] == 'TestTimeAug':
            kept.append(dict(transform, transforms=without_annotations(transform['transforms'])))
        elif transform['type'] not in ANNOTATION_STEPS:
            kept.append(transform)
    return kept
