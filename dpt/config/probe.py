"""Run pipelines on synthetic images to detect mistakes that would silently give wrong results.

The transforms themselves are run, so that those of users and of other packages are covered. The image is a
white rectangle on black, which shows how a transform moved the image whatever it did to colours.
"""

import copy
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from dpt.config.parts import Problem, is_own
from dpt.config.probe_depth import check_depth_step, check_packed_depth, depth_sample, has_depth

SIZES = ((97, 131), (131, 97), (97, 131), (131, 97), (1211, 1607))
"""Heights and widths that few sizes and divisors of a config fit; the last is larger than usual crops."""
RECTANGLE = (0.2, 0.95, 0.3, 0.9)
"""Top, bottom, left and right of the rectangle, as shares of the image."""
MAX_SHIFT = 1.0
"""Mean distance in pixels between the expected and the found edges that resizing may cause; it is below 0.05
for smooth interpolation, and up to 0.9 for nearest neighbours, times a quarter of the factor of enlarging."""
SHOWN = 256
"""Larger images are compared at about this size."""
FLIPPED_AXES = dict(horizontal=(1,), vertical=(0,), diagonal=(0, 1))
WHITE = 255
MAX_NORMALISED_RANGE = 25
"""Difference between white and black, ``WHITE`` when loaded, below which an image has been normalised."""

View = tuple[np.ndarray, Mapping]
"""An image of shape HxWxC and what is recorded about it."""


def check_pipeline(
    steps: Sequence[Callable], key: str, dataset: BaseDataset, preprocessor: Mapping, training: bool
) -> Iterator[Problem]:
    """Run a pipeline on a few images and check what it returns.

    A pipeline that cannot run on these images, because it needs other files, is not checked.

    Args:
        steps: The transforms.
        key: Dotted key of the pipeline.
        dataset: The data set, built without reading files; only those with labels or depth of dpt are
            checked.
        preprocessor: Config of the preprocessor.
        training: Whether the pipeline is used for training; otherwise its geometry must be restorable.
    """
    depth = has_depth(dataset)
    if not (hasattr(dataset, 'ignore_index') or depth) or not steps:
        return
    found: dict[str, str] = {}
    if not training or depth:
        steps = [_certain(step) for step in steps]
    # Users' classes may load or pack images without transforms.
    own = is_own(type(dataset)) and preprocessor.get('type') == 'SegDataPreProcessor'
    with tempfile.TemporaryDirectory() as folder, _fixed_seed():
        for size in SIZES:
            results = _sample(Path(folder), size, dataset)
            try:
                for place, what in _run(steps, results, _rectangle(size), preprocessor, training, own):
                    found.setdefault(f'{key}.{place}' if place.isdecimal() else place, what)
            except Exception:  # noqa: BLE001, S112 (whatever a transform raises, the run itself reports)
                continue
            if found:
                break
    yield from found.items()


def _certain(step: Callable) -> Callable:
    """Return a copy of a random transform of dpt or mmcv that is always applied."""
    if type(step).__module__.split('.')[0] not in ('dpt', 'mmcv'):
        return step
    certain = copy.deepcopy(step)
    for part, name in ((certain, 'prob'), *((one, 'p') for one in getattr(certain, 'aug', ()))):
        value = getattr(part, name, None)
        if isinstance(value, float) and 0 < value < 1:
            setattr(part, name, 1.0)
    return certain


@contextmanager
def _fixed_seed() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _rectangle(size: tuple[int, int]) -> np.ndarray:
    top, bottom, left, right = RECTANGLE
    white = np.zeros(size, bool)
    rows = slice(int(top * size[0]), int(bottom * size[0]))
    columns = slice(int(left * size[1]), int(right * size[1]))
    white[rows, columns] = True
    return white


def _sample(folder: Path, size: tuple[int, int], dataset: Any) -> dict:
    """Write an image and its mask; return the sample that the data set would give to the pipeline."""
    white = _rectangle(size)
    image = str(folder / 'image.png')
    cv2.imwrite(image, np.repeat(white[..., None], 3, axis=2).astype(np.uint8) * WHITE)
    common = dict(img_path=image, seg_fields=[], sample_idx=0)
    if has_depth(dataset):
        return {**common, **depth_sample(folder, white, dataset)}
    labels = [0, 1]
    if dataset.label_map:
        labels = [old for new in labels for old, renamed in dataset.label_map.items() if renamed == new]
    mask = np.where(white, labels[1], labels[0]).astype(np.uint16) + bool(dataset.reduce_zero_label)
    annotation = str(folder / 'mask.png')
    cv2.imwrite(annotation, mask)
    return dict(
        common,
        seg_map_path=annotation,
        label_map=dataset.label_map,
        reduce_zero_label=dataset.reduce_zero_label,
        num_classes=len(dataset.metainfo['classes']),
        ignore_index=dataset.ignore_index,
        allow_unlabelled=True,
    )


def _run(
    steps: Sequence[Callable],
    results: Any,
    white: np.ndarray,
    preprocessor: Mapping,
    training: bool,
    own: bool,
) -> Iterator[Problem]:
    """Yield problems with the number of the step that causes them, or the key of the preprocessor."""
    classes, void = results.get('num_classes', 0), results.get('ignore_index')
    with_depth, original = 'depth_map_path' in results, white
    moved_at = normalised_at = None
    views: list[View] = []
    loaded = None
    for number, step in enumerate(steps):
        before, had_labels, name = dict(results), 'gt_seg_map' in results, type(step).__name__
        results = _after(step, results, check=own and is_own(type(step)))
        if results is None:
            yield (
                str(number),
                f'{name} needs an image: put it after LoadImageFromFile and before PackSegInputs',
            )
            return
        views = _views(results)
        if not views:
            continue
        loaded = views[0][0] if loaded is None else loaded
        if views[0][1].get('crop_box'):  # becomes the original image
            top, bottom, left, right = views[0][1]['crop_box']
            white = original[top:bottom, left:right]
        if with_depth and training:
            yield from check_depth_step(number, name, before, results, results.get('img'))
        if max(_shift(_unflipped(*view), white) for view in views) <= MAX_SHIFT:
            moved_at = None
        elif moved_at is None:
            moved_at = number
        normalised = loaded.dtype == np.uint8 and any(_is_normalised(image) for image, _ in views)
        normalised_at = (number if normalised_at is None else normalised_at) if normalised else None
        labels = results.get('gt_seg_map')
        if labels is not None:
            if training and not had_labels and not _fits(views[0][0], labels, white):
                yield (
                    str(number),
                    f'{name} loads the labels after the image was resized, cropped or flipped, so they do '
                    'not fit it: put it directly after the transform that loads the image',
                )
            yield from _check_written(number, name, labels, classes, void)
    if own and is_own(type(steps[-1])) and 'inputs' not in results:
        yield str(len(steps) - 1), f'{name} is the last transform, but that must be PackSegInputs'
    if with_depth and 'inputs' in results:
        samples = results['data_samples']
        for sample in samples if isinstance(samples, (list, tuple)) else [samples]:
            yield from check_packed_depth(len(steps) - 1, sample, white, training)
    if not training and moved_at is not None:
        yield str(moved_at), _explain_moved(type(steps[moved_at]).__name__)
    if preprocessor.get('type') == 'SegDataPreProcessor':  # those of users may scale images themselves
        at = None if normalised_at is None else (normalised_at, type(steps[normalised_at]).__name__)
        yield from _check_statistics(preprocessor.get('std') or [0], views, at)


def _check_written(
    number: int, name: str, labels: np.ndarray, classes: int, void: int | None
) -> Iterator[Problem]:
    """Check that a mask has no other labels than the classes and ``void``."""
    present = np.bincount(labels.ravel()).nonzero()[0].tolist()
    outside = [label for label in present if label >= classes and label != void]
    if outside:
        yield (
            str(number),
            f'{name} writes the label {outside[0]}, which is neither a class nor ignore_index={void} of '
            f'the data set: make it pad and fill masks with {void}, such as pad_val=dict(img=0, seg={void})',
        )


def _check_statistics(
    std: Sequence[float], views: list[View], normalised: tuple[int, str] | None
) -> Iterator[Problem]:
    """Compare the preprocessor with the images of a pipeline.

    Args:
        std: Standard deviations by which the preprocessor divides.
        views: The images that the pipeline returns.
        normalised: Number and name of the step that normalises images, if any.
    """
    largest = max(std)
    if 0 < largest < 1 and normalised is None and any(_spread(image) > WHITE / 2 for image, _ in views):
        yield (
            'model.data_preprocessor.std',
            f'{largest} is meant for images from 0 to 1, but the pipeline returns images from 0 to 255: '
            'multiply mean and std by 255',
        )
    if normalised is not None and largest > 2:
        number, name = normalised
        yield (
            str(number),
            f'{name} normalises the image, and model.data_preprocessor would do so again: remove it from the '
            'pipeline, or set mean=[0, 0, 0] and std=[1, 1, 1] of model.data_preprocessor',
        )


def _after(step: Callable, results: Any, check: bool) -> Any:
    """Return the results of a transform; ``None`` if it is to be checked and has no image to work on."""
    if not check:
        return step(results)
    packed = 'inputs' in results
    try:
        results = step(results)
    except KeyError as error:
        if error.args != ('img',) and not packed:
            raise
        return None
    # Resize, for one, silently does nothing without an image.
    absent = not {'img', 'inputs'} & set(results) and not type(step).__name__.startswith('Load')
    return None if packed or absent else results


def _explain_moved(name: str) -> str:
    return (
        f'after {name} predictions cannot be mapped back to the original image, because its geometry is not '
        'recorded: remove it from pipelines for testing. To pad, set model.data_preprocessor.test_cfg='
        'dict(size_divisor=32); large images are predicted by model.test_cfg with mode="slide"'
    )


def _views(results: Any) -> list[View]:
    """Return the images in the results of a transform; several after ``TestTimeAug``."""
    if 'inputs' not in results:
        return [(results['img'], results)] if 'img' in results else []
    inputs, samples = results['inputs'], results['data_samples']
    if not isinstance(inputs, (list, tuple)):
        inputs, samples = [inputs], [samples]
    return [
        (one.permute(1, 2, 0).numpy(), sample.metainfo) for one, sample in zip(inputs, samples, strict=True)
    ]


def _unflipped(image: np.ndarray, recorded: Mapping) -> np.ndarray:
    return np.flip(image, FLIPPED_AXES[recorded['flip_direction']]) if recorded.get('flip') else image


def _shift(image: np.ndarray, white: np.ndarray) -> float:
    """Return how far the edges of the rectangle are from where resizing puts them, in pixels."""
    enlarged = max(now / before for now, before in zip(image.shape[:2], white.shape, strict=True))
    step = max(1, max(image.shape[:2]) // SHOWN)
    grey = image[::step, ::step].reshape(*image[::step, ::step].shape[:2], -1).astype(np.float32).mean(axis=2)
    middle = (grey.max() + grey.min()) / 2
    expected = cv2.resize(white.astype(np.float32), grey.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
    top, bottom, left, right = RECTANGLE
    edges = 2 * ((bottom - top) * grey.shape[0] + (right - left) * grey.shape[1])
    return float(((grey > middle) != expected).sum() / edges / max(1.0, enlarged / step / 4))


def _fits(image: np.ndarray, labels: np.ndarray, white: np.ndarray) -> bool:
    return image.shape[:2] == labels.shape and _shift(image, white) <= MAX_SHIFT


def _is_normalised(image: np.ndarray) -> bool:
    return 0 < _spread(image) < MAX_NORMALISED_RANGE


def _spread(image: np.ndarray) -> float:
    return float(image.max()) - float(image.min())
