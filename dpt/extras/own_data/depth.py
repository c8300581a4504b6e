"""Read a user's depth files, find their unit, and write the config for training on them."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from dpt.datasets.bad_sample import FILE_ERRORS, read_file
from dpt.datasets.depth import FARTHEST
from dpt.datasets.depth_files import DEPTH_SUFFIXES, decode_depth
from dpt.datasets.transforms import LoadDepthAnnotation
from dpt.extras.check_depth import NEAREST, DepthRecord, faults_of, notes_of
from dpt.extras.files import write_lines
from dpt.extras.own_data.annotations import Pairs, pair
from dpt.extras.own_data.config import path_from
from dpt.extras.own_data.dataset import RECORD, image_size, whole_folder
from dpt.extras.read_samples import UPRIGHT

UNITS = {'m': 1.0, 'cm': 0.01, 'mm': 0.001, '1/256': 1 / 256}
"""Metres for a number in the files, by name."""
ROOM = 1.1
"""Factor between the depth below which 99 % of each file is, and the largest that the model predicts."""
FEWEST_ITERS, EPOCHS = 500, 100
"""Training lasts this number of epochs, but at least these iterations and at most those of the base."""
JUDGED = 8
"""About how many files the unit is judged by."""
STEPS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)

TEMPLATE = """\
# {name}: {counts} pairs of image and depth. Written by tools/new_dataset.py.
_base_ = [{base!r}]
data = dict(
    type='BaseDepthDataset',
    data_root={root!r},
    data_prefix=dict(
        img_path={images!r},
        depth_map_path={depths!r},
    ),
    img_suffix={image_suffix!r},
    depth_map_suffix={depth_suffix!r},
    depth_rescale_factor={factor},  # metres for a number in the files
    invalid_value={invalid},
)
train_dataloader = dict(
    dataset=dict(_delete_=True, **data, ann_file='splits/training.txt', pipeline=_base_.train_pipeline)
)
val_dataloader = dict(
    dataset=dict(_delete_=True, **data, ann_file='splits/validation.txt', pipeline=_base_.test_pipeline)
)
test_dataloader = dict(
    dataset=dict(_delete_=True, **data, ann_file='splits/{test}.txt', pipeline=_base_.test_pipeline)
)
{of_range}{of_length}"""
LENGTH = """\
# {epochs:.0f} epochs; the base trains for {base_iters} iterations.
max_iters = {iters}
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
param_scheduler = _base_.param_scheduler
param_scheduler[-1].update(end=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
"""
RANGE = """\
max_depth = {largest}  # metres, not trained on beyond; 99 % of the depth in each file is below {seen:.3g} m
model = dict(max_depth=max_depth, decode_head=dict(max_depth=max_depth))
val_evaluator = dict(max_depth_eval=max_depth)
test_evaluator = val_evaluator
"""


@dataclass
class DepthSurvey:
    """Sizes and statistics of all pairs.

    Args:
        factor: Metres for a number in the files.
        invalid: Number that means 'no measurement', or None.
        sizes: (height, width) by image.
        records: Statistics of the depth of each image, in metres.
        rotated: EXIF orientation by image, for images that are rotated on loading.
        problems: Error message by image, for images that cannot be used.
    """

    factor: float
    invalid: float | None
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    records: dict[str, DepthRecord] = field(default_factory=dict)
    rotated: dict[str, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def median_size(self) -> tuple[int, int]:
        """Return the median (height, width)."""
        height, width = np.median(list(self.sizes.values()), axis=0)
        return int(height), int(width)


def pair_depth(images: Path, depths: Path, img_suffix: str = '', depth_suffix: str = '') -> Pairs:
    """Find the depth file of each image; see :func:`~dpt.extras.own_data.annotations.pair`."""
    return pair(images, depths, img_suffix, depth_suffix, DEPTH_SUFFIXES)


def factor_of(unit: str) -> float:
    """Return the metres for a number in the files, from a name in ``UNITS`` or a number.

    Raises:
        ValueError: If it is neither.
    """
    if unit in UNITS:
        return UNITS[unit]
    try:
        factor = float(unit)
    except ValueError:
        factor = 0.0
    if not 0 < factor < math.inf:
        raise ValueError(
            f'--unit {unit}: expected {", ".join(UNITS)} or the metres for a number in the files'
        )
    return factor


def find_unit(pairs: Pairs) -> float:
    """Return the metres for a number in the files, judged by the numbers in some of them.

    Raises:
        ValueError: If several units are likely; the message says what each would mean.
    """
    files = [pairs.masks / depth for _, depth in pairs.found[:: max(len(pairs.found) // JUDGED, 1)]]
    values = [decode_depth(read_file(str(path), 'depth'), str(path)) for path in files]
    known = [one[np.isfinite(one) & (one > 0)] for one in values]
    if not any(one.size for one in known):
        raise ValueError(f'depth {files[0]} and others have no valid pixel')
    middle = float(np.median([np.median(one) for one in known if one.size]))
    whole = all((one == np.rint(one)).all() for one in known)
    if not whole and NEAREST < middle < FARTHEST:
        return UNITS['m']
    meanings = ', '.join(
        f'{middle * factor:.3g} m with --unit {name}'
        for name, factor in UNITS.items()
        if NEAREST < middle * factor < FARTHEST
    )
    raise ValueError(
        f'the unit of the depth files is not known: the median of the numbers, {middle:.4g}, would be '
        f'{meanings or "no likely depth in any unit"}; give --unit, or the metres for a number'
    )


def survey_depth(
    pairs: Pairs,
    factor: float,
    invalid: float | None,
    workers: int,
    track: Callable[[Iterable], Iterable] = iter,
) -> DepthSurvey:
    """Read all depth files and image sizes with ``workers`` threads."""
    result = DepthSurvey(factor, invalid)
    load = LoadDepthAnnotation(factor, invalid)

    def look(names: tuple[str, str]) -> tuple[str, tuple[int, int], DepthRecord | str]:
        image, depth = names
        path = str(pairs.masks / depth)
        try:
            size, orientation = image_size(pairs.images / image)
            if orientation not in UPRIGHT:
                result.rotated[image] = orientation
            values = load.read(path)
            sample = dict(img_path=str(pairs.images / image), depth_map_path=path, ori_shape=size)
            return image, size, DepthRecord.of(values, load.place(values, sample)['gt_depth_map'])
        except FILE_ERRORS as error:
            return image, (0, 0), str(error)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for image, size, found in track(pool.map(look, pairs.found)):
            if isinstance(found, str):
                result.problems[image] = found
            else:
                result.sizes[image], result.records[image] = size, found
    return result


def likely_invalid(found: DepthSurvey) -> int | None:
    """Return the number that seems to mean 'no measurement': the largest of the format, in most files."""
    markers = [one.marker for one in found.records.values()]
    usual = max(set(markers), key=markers.count, default=None)
    return usual if markers.count(usual) * 2 > len(markers) else None


def remarks(pairs: Pairs, found: DepthSurvey) -> list[str]:
    """Return what looks wrong or unusual in the depth as a whole, one line each."""
    records, path = list(found.records.values()), str(pairs.masks / pairs.found[0][1])
    both = [*faults_of(records, path, found.factor), *notes_of(records, path, found.invalid)]
    return [message for _, message in both]


def largest_depth(found: DepthSurvey) -> float:
    """Return a round depth in metres above 99 % of the depth in each file."""
    wanted = ROOM * max(one.high for one in found.records.values())
    power = 10.0 ** math.floor(math.log10(wanted))
    return float(f'{next(step * power for step in STEPS if step * power >= wanted * (1 - 1e-9)):.3g}')


def write_depth_splits(
    out: Path, pairs: Pairs, lists: Mapping[str, Sequence[str]], record: Mapping[str, Any]
) -> None:
    """Write the split files and a description of how they were made, atomically; depth is read in place.

    Raises:
        ValueError: If the images have several suffixes and the names of some contain blanks.
    """
    depth_of = dict(pairs.found)
    with whole_folder(out) as folder:
        for name, images in lists.items():
            lines = [image.removesuffix(pairs.image_suffix) for image in images]
            if not pairs.image_suffix:
                lines = [f'{image} {depth_of[image]}' for image in images]
                odd = [line for line in lines if line.count(' ') > 1]
                if odd:
                    raise ValueError(
                        f'images with several suffixes need names without blanks, unlike {odd[0]!r}: rename '
                        'the files, or choose one suffix with --img-suffix'
                    )
            write_lines(folder / 'splits' / f'{name}.txt', lines)
        write_lines(folder / RECORD, [json.dumps(record, indent=1)])


def depth_config_text(
    name: str,
    file: Path,
    base: Path,
    out: Path,
    pairs: Pairs,
    found: DepthSurvey,
    lists: Mapping[str, Sequence[str]],
) -> str:
    """Return the text of a config.

    Args:
        name: Name of the data set.
        file: Path of the config.
        base: Base config, with ``train_pipeline`` and ``test_pipeline``.
        out: Folder of the split files.
        pairs: Images and depth files.
        found: Statistics of the depth.
        lists: Images of each split.

    Raises:
        ValueError: If the base is not a config of depth.
    """
    config = Config.fromfile(str(base))
    for key in ('train_pipeline', 'test_pipeline'):
        if key not in config or config.model.type != 'DepthEstimator':
            raise ValueError(f'--base {base}: expected a config of DepthEstimator with {key}')
    of_range = ''
    if not config.model.decode_head.get('relative'):
        seen = max(one.high for one in found.records.values())
        of_range = RANGE.format(largest=largest_depth(found), seen=seen)
    return TEMPLATE.format(
        name=name,
        counts=' + '.join(f'{len(images)} {one}' for one, images in lists.items()),
        base=path_from(file.parent, base),
        root=out.as_posix(),
        images=path_from(out, pairs.images),
        depths=path_from(out, pairs.masks),
        image_suffix=pairs.image_suffix or '.jpg',  # not used if the split files name the depth
        depth_suffix=pairs.mask_end,
        factor='1 / 256' if found.factor == UNITS['1/256'] else f'{found.factor:g}',
        invalid=found.invalid if found.invalid is None else f'{found.invalid:g}',
        test='test' if 'test' in lists else 'validation',
        of_range=of_range,
        of_length=_length(config, len(lists['training'])),
    )


def _length(config: Config, count: int) -> str:
    """Return config lines that shorten the training for ``count`` images, if the base is longer."""
    base_iters, batch = config.get('train_cfg', {}).get('max_iters'), config.get('total_batch_size') or 1
    iters = max(FEWEST_ITERS, math.ceil(EPOCHS * count / batch))
    schedule = (config.get('param_scheduler') or [{}])[-1]
    if base_iters is None or iters >= base_iters or schedule.get('end') != base_iters:
        return ''
    return LENGTH.format(epochs=iters * batch / count, base_iters=base_iters, iters=iters)
