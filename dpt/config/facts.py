"""Compare what a config says in several places with the data set, which owns these facts.

A data set owns its classes, their number, the label of pixels without a class (``ignore_index``) and whether
label 0 means 'no label' (``reduce_zero_label``). Models, metrics and transforms that state one of them must
agree; those that do not state it take it from the data set.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset

from dpt.config.parts import Problem, arguments, is_own
from dpt.config.walk import walk
from dpt.registry import MODELS

HEADS = {'decode_head', 'auxiliary_heads'}
LOSSES = ('model.loss', 'model.auxiliary_loss')
VOID_KEYS = ('ignore_index', 'seg_pad_val')
"""Arguments of models, metrics and transforms that state the label of pixels without a class."""


def argument(part: Any, name: str) -> Any:
    """Return an argument of a part of dpt, or its default; ``None`` if another package has the part."""
    kind = part.get('type') if isinstance(part, Mapping) else None
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    if not kind or not is_own(kind):
        return None
    parameter = arguments(kind)[0].get(name)
    return part.get(name, parameter.default if parameter else None)


def check_channels(config: Config) -> Iterator[Problem]:
    """Compare the channels that the parts of dpt take with those of the part before."""
    model = config.model
    neck, heads = model.get('neck'), {'decode_head': model.get('decode_head')}
    heads |= {f'auxiliary_heads.{i}': head for i, head in enumerate(model.get('auxiliary_heads') or ())}
    maps, channels = argument(neck, 'post_process_channels'), argument(neck, 'channels')
    pairs = [('neck', neck, 'backbone.embed_dims', argument(model.get('backbone'), 'embed_dims'))]
    pairs += [(key, head, 'neck.channels', channels) for key, head in heads.items()]
    for key, part, before, given in pairs:
        taken = argument(part, 'in_channels')
        if isinstance(taken, int) and isinstance(given, int) and taken != given:
            yield f'model.{key}.in_channels', f'{taken}, but model.{before} is {given}'
    for key, head in heads.items():
        index = argument(head, 'in_index')
        if isinstance(index, int) and maps and not -len(maps) <= index < len(maps):
            yield f'model.{key}.in_index', f'{index}, but model.neck returns {len(maps)} maps'


def check_labels(config: Config, key: str, dataset: Mapping, built: BaseDataset) -> Iterator[Problem]:
    """Compare what the model, the metric and the pipeline say about labels with a data set.

    Args:
        config: The whole config.
        key: Dotted key of the data set.
        dataset: Config of the data set.
        built: The data set, built without reading files.
    """
    stating = {f'{key}.pipeline': dataset.get('pipeline')}
    if key.startswith('train_dataloader'):
        stating['model'] = config.model
    else:
        evaluator = f'{key.split("_dataloader")[0]}_evaluator'
        stating[evaluator] = config.get(evaluator)
    for place, value in stating.items():
        yield from _check_labels(place, value, key, built.metainfo)


def check_number_of_classes(config: Config, dataset: str, count: int) -> Iterator[Problem]:
    """Compare the heads and the class weights with the number of classes of a data set."""
    for key, part in walk(config.model, 'model'):
        number, weight = part.get('num_classes'), part.get('class_weight')
        # A backbone may keep the num_classes of its pretraining.
        if isinstance(number, int) and number != count and HEADS & set(key.split('.')):
            yield f'{key}.num_classes', f'{number}, but {dataset} has {count} classes'
        if isinstance(weight, (list, tuple)) and len(weight) != count:
            yield f'{key}.class_weight', f'{len(weight)} weights, but {dataset} has {count} classes'
        elif isinstance(weight, (list, tuple)) and not (
            any(weight) and all(0 <= one < inf for one in weight)
        ):
            yield f'{key}.class_weight', f'{weight}: weights must be 0 or more and finite, and not all 0'


def _check_labels(place: str, value: Any, dataset: str, metainfo: Mapping) -> Iterator[Problem]:
    void, reduced = metainfo.get('ignore_index'), metainfo.get('reduce_zero_label')
    classes = len(metainfo.get('classes') or ())
    for key, part in walk(value, place):
        for name in VOID_KEYS:
            stated = part.get(name)
            may_leave_out = place.endswith('_evaluator') or key.startswith(LOSSES)
            leaves_out_a_class = may_leave_out and isinstance(stated, int) and stated < classes
            if void is not None and stated not in (None, void) and not leaves_out_a_class:
                yield (
                    f'{key}.{name}',
                    f'{stated}, but {dataset} has ignore_index={void} for pixels without a class: remove '
                    'this key, and set ignore_index on the data set if it is wrong there',
                )
        stated = part.get('reduce_zero_label')
        if reduced is not None and stated not in (None, reduced):
            yield (
                f'{key}.reduce_zero_label',
                f'{stated}, but {dataset} has reduce_zero_label={reduced}: set it only on the data set',
            )


def check_same_labels(datasets: Mapping[str, BaseDataset]) -> Iterator[Problem]:
    """Compare how data sets of one type and root, whose masks are in folders side by side, read label 0.

    Args:
        datasets: Data sets, built without reading files, by dotted key.
    """
    first: dict[tuple, tuple[str, Any]] = {}
    for key, dataset in datasets.items():
        masks = getattr(dataset, 'data_prefix', {}).get('seg_map_path')
        if not masks or not hasattr(dataset, 'reduce_zero_label'):
            continue
        stated, folder = dataset.reduce_zero_label, str(Path(masks).parent)
        same = (type(dataset), getattr(dataset, 'data_root', None), folder)
        other, before = first.setdefault(same, (key, stated))
        if before != stated:
            yield (
                f'{key}.reduce_zero_label',
                f'{stated}, but {other}, whose masks are in {folder}, too, has {before}',
            )


def check_same_classes(classes: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Compare the class names of all data sets with those of the first.

    Args:
        classes: Class names by dotted key of the data set.
    """
    first = next(iter(classes), '')
    for key, names in classes.items():
        if len(names) == len(classes[first]):  # another number is reported with the number of the heads
            differing = [i for i, name in enumerate(names) if name != classes[first][i]]
            if differing:
                i = differing[0]
                yield (
                    f'{key}.metainfo.classes',
                    f'class {i} is {names[i]!r}, but {first} has {classes[first][i]!r}: name the same '
                    'classes in the same order',
                )
