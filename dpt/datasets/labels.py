"""Checks of the labels of a mask."""

import numpy as np

from dpt.datasets.bad_sample import BadSampleError
from dpt.structures import IGNORE_INDEX


def outside_labels(labels: np.ndarray, num_classes: int, ignore_index: int = IGNORE_INDEX) -> list[int]:
    """Return the sorted labels that are neither a class nor ``ignore_index``.

    Args:
        labels: Non-negative integers of shape HxW.
        num_classes: Number of classes K; labels 0..K-1 are classes.
        ignore_index: Label of pixels that are ignored.
    """
    if not labels.size or labels.max() < num_classes:
        return []
    # Fast path for the usual masks: highest_label ignores 255.
    if labels.dtype == np.uint8 and ignore_index == IGNORE_INDEX and highest_label(labels) < num_classes:
        return []
    present = np.unique(labels)
    return [int(value) for value in present if value >= num_classes and value != ignore_index]


def highest_label(labels: np.ndarray) -> int:
    """Return the highest uint8 label other than 255, or -1."""
    return int((labels + np.uint8(1)).max()) - 1


def is_unlabelled(labels: np.ndarray, ignore_index: int = IGNORE_INDEX) -> bool:
    """Return whether all pixels are ignored."""
    return bool((labels == ignore_index).all())


def check_labels(labels: np.ndarray, disk: np.ndarray, sample: dict, reduce_zero_label: bool) -> None:
    """Check the labels of a mask against the classes of the data set.

    Args:
        labels: Labels for training, of shape HxW.
        disk: Labels in the file, of shape HxW.
        sample: Dict of the sample; without ``num_classes`` nothing is checked.
        reduce_zero_label: Whether label 0 in the file means 'no label'.

    Raises:
        BadSampleError: If a label is not a class, or if no pixel is labelled and the sample has
            ``allow_unlabelled=False``.
    """
    count = sample.get('num_classes')
    if count is None:
        return
    ignore_index = sample.get('ignore_index', IGNORE_INDEX)
    outside = outside_labels(labels, count, ignore_index)
    if outside:
        found = np.unique(disk[np.isin(labels, outside)])[:5]
        raise BadSampleError(
            f'mask {sample["seg_map_path"]} contains the label {", ".join(map(str, found))}, used as class '
            f'{", ".join(map(str, outside[:5]))}, but the {count} classes are 0 to {count - 1} and '
            f'{ignore_index} is ignored: {_remedy(disk, sample, reduce_zero_label, ignore_index)}',
            'label outside the classes',
        )
    if not sample.get('allow_unlabelled', True) and is_unlabelled(labels, ignore_index):
        raise BadSampleError(f'mask {sample["seg_map_path"]} has no labelled pixel', 'no labelled pixel')


def check_packed_labels(results: dict) -> None:
    """Check the labels that leave a pipeline; samples without ``num_classes`` are not checked.

    Raises:
        ValueError: If a label is neither a class nor ignored. The file was checked when it was read, so a
            transform wrote this label.
    """
    count, ignore_index = results.get('num_classes'), results.get('ignore_index', IGNORE_INDEX)
    if count is None:
        return
    outside = outside_labels(results['gt_seg_map'], count, ignore_index)
    if outside:
        raise ValueError(
            f'a transform wrote the label {", ".join(map(str, outside[:5]))} into the mask '
            f'{results.get("seg_map_path")}, but the {count} classes are 0 to {count - 1} and the data set '
            f'ignores {ignore_index}: make the transform pad and fill masks with {ignore_index}, such as '
            f'pad_val=dict(img=0, seg={ignore_index}) of Pad'
        )


def explain_one_class(masks: int, path: str, label: int, name: str, reduce_zero_label: bool) -> str:
    """Return the message about masks whose labelled pixels are all of one class."""
    remedy = (
        'set reduce_zero_label=False, so that 0 is a class'
        if reduce_zero_label
        else 'convert the masks to class indices, such as with tools/new_dataset.py'
    )
    return (
        f'the pixels of all {masks} masks inspected, such as {path}, are either class {label} ({name}) or '
        'ignored, so a model would learn nothing. If ignored pixels are a class, too, such as 255 in masks '
        f'of 0 and 255, {remedy}'
    )


def _remedy(disk: np.ndarray, sample: dict, reduce_zero_label: bool, ignore_index: int) -> str:
    counted = disk[disk != ignore_index]
    if (
        not reduce_zero_label
        and not sample.get('label_map')
        and counted.max(initial=0) == sample['num_classes']
    ):
        return "set reduce_zero_label=True on the data set if 0 means 'no label', or list all classes"
    return f'list all classes in metainfo, or label pixels without a class {ignore_index}'
