"""Read a complete data set before training and report its contents and faults."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import fileio

from dpt.datasets.ade20k import ADE20KDataset
from dpt.datasets.depth import BaseDepthDataset
from dpt.datasets.files import list_files, walk_files
from dpt.datasets.labels import explain_one_class
from dpt.datasets.pairs import PairDataset
from dpt.datasets.segmentation import BaseSegDataset
from dpt.datasets.transforms.loading import DARK, explain_dark, label_table
from dpt.extras.ade20k import compare_with_release
from dpt.extras.check_depth import DepthRecord, faults_of, histogram, notes_of, summary
from dpt.extras.files import IMAGE_SUFFIXES
from dpt.extras.own_data.annotations import Colour, differing_palettes
from dpt.extras.read_samples import Inspector, Record, read_all
from dpt.registry import DATASETS

SHOWN = 5
"""Number of printed messages of each kind; the JSON file contains all."""


@dataclass
class Contents:
    """Result of checking a data set, the sum of its records.

    Args:
        name: Names of the data loaders that use the data set.
        dataset: The data set; None if its folders could not be listed.
        sizes: (height, width) by image; None for an image that cannot be read.
        modes: Number of images by format and mode.
        highest: Highest value of each 16-bit image after loading.
        pixels: Number of pixels of each label on disk.
        images: Number of images that contain each label.
        colours: RGB colour of each label in each mask that has a palette, by image.
        depths: Statistics of the depth of each image that has any.
        faults: Messages about errors to correct before training, by kind.
        notes: Messages about findings that may be intended, by kind.
    """

    name: str
    dataset: Any = None
    sizes: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    modes: Counter = field(default_factory=Counter)
    highest: dict[str, int] = field(default_factory=dict)
    pixels: Counter = field(default_factory=Counter)
    images: Counter = field(default_factory=Counter)
    colours: dict[str, dict[int, Colour]] = field(default_factory=dict)
    depths: list[DepthRecord] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Add the result of a sample."""
        self.sizes[record.image] = record.size
        self.modes.update([record.mode] if record.mode else [])
        if record.highest is not None:
            self.highest[record.image] = record.highest
        self.pixels.update(record.counts)
        self.images.update(record.counts.keys())
        if record.colours:
            self.colours[record.image] = record.colours
        if record.depth is not None:
            self.depths.append(record.depth)
        for kind, message in record.faults:
            self.fault(kind, message)
        for kind, message in record.notes:
            self.note(kind, message)

    def fault(self, kind: str, message: str) -> None:
        self.faults.setdefault(kind, []).append(message)

    def note(self, kind: str, message: str) -> None:
        self.notes.setdefault(kind, []).append(message)


def check_dataset(
    config: Mapping, name: str, workers: int = 0, track: Callable[[Iterable, int], Iterable] | None = None
) -> Contents:
    """Read and check a data set; missing or damaged files are recorded as faults.

    Args:
        config: Config of the data set.
        name: Names of the data loaders that use it. With ``'train_dataloader'``, every class must occur.
        workers: Number of worker processes; 0 reads in this process.
        track: Wraps the samples to show progress; the second argument is their number.

    Raises:
        ValueError: If the type of the data set is not supported, settings contradict each other, or a worker
            dies.
    """
    contents = _open_dataset(config, name)
    dataset = contents.dataset
    if dataset is None:
        return contents
    annotations = None if config.get('test_mode') else dataset.data_prefix[dataset.annotation_key]
    _inspect_files(contents, dataset, annotations)
    inspector = Inspector(dataset, config.get('pipeline') or [], annotations is not None)
    records: Iterable[Record] = read_all(inspector, workers)
    for record in track(records, len(dataset)) if track else records:
        contents.add(record)
    if isinstance(dataset, BaseDepthDataset):
        _judge_depth(contents, dataset)
    else:
        _judge(contents, dataset, 'train_dataloader' in name)
    _judge_images(contents)
    return contents


def _open_dataset(config: Mapping, name: str) -> Contents:
    kind = DATASETS.get(config['type']) if isinstance(config['type'], str) else config['type']
    if not (isinstance(kind, type) and issubclass(kind, (BaseSegDataset, BaseDepthDataset))):
        raise ValueError(
            f'{name}.dataset.type={config["type"]!r}: only subclasses of BaseSegDataset and BaseDepthDataset '
            'can be checked'
        )
    contents = Contents(name)
    given = {key: value for key, value in config.items() if key not in ('pipeline', 'max_bad_samples')}
    try:
        dataset = DATASETS.build({**given, 'pipeline': [], 'test_mode': True, 'lazy_init': True})
        key = dataset.annotation_key
        annotations = dataset.data_prefix.get(key)
        if not config.get('test_mode') and annotations is None:
            what = f'{dataset.annotation}s'
            raise ValueError(f'there are no {what}: set data_prefix[{key!r}], or test_mode=True')
        dataset.full_init()
        if not config.get('test_mode') and not fileio.isdir(annotations, backend_args=dataset.backend_args):
            raise FileNotFoundError(dataset.explain_missing(annotations))
    except (ValueError, OSError) as error:
        contents.fault('data set', str(error))
        return contents
    contents.dataset = dataset
    return contents


def _inspect_files(contents: Contents, dataset: PairDataset, annotations: str | None) -> None:
    """Record duplicate images, broken links and, without a split file, files that no sample uses."""
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    for path, times in Counter(paths).items():
        if times > 1:
            contents.fault('listed twice', f'{path} is listed {times} times')
    for stem, times in Counter(Path(path).stem for path in set(paths)).items():
        if times > 1:
            contents.note('same name', f'{times} images in different folders are named {stem}')
    images = dataset.data_prefix['img_path']
    for what, folder in (('image', images), (dataset.annotation, annotations)):
        for entry in walk_files(folder) if folder and os.path.isdir(folder) else ():
            if entry.is_symlink() and not os.path.exists(entry.path):
                contents.fault('broken link', f'{what} {entry.path} is a link to a missing file')
    if dataset.ann_file or dataset._indices is not None:
        return
    if images == dataset.data_prefix.get(dataset.annotation_key):
        return
    used = set(paths)
    for name in list_files(images, dataset.backend_args):
        path = os.path.join(images, name)
        if path not in used and name.lower().endswith(IMAGE_SUFFIXES):
            contents.note('unused image', f'{path} is not used: img_suffix is {dataset.img_suffix!r}')
    if annotations is None:
        return
    end, suffix = len(dataset.img_suffix), dataset.annotation_suffix
    expected = {os.path.relpath(path, images)[:-end] + suffix for path in paths}
    for name in list_files(annotations, dataset.backend_args):
        if name not in expected and name.endswith(suffix):
            message = f'{os.path.join(annotations, name)} belongs to no image'
            contents.note(f'{dataset.annotation} without image', message)


def _judge(contents: Contents, dataset: BaseSegDataset, training: bool) -> None:
    """Add faults of the data set as a whole: missing classes, wrong labels, wrong archive."""
    if contents.pixels:
        table = _label_table(contents, dataset)
        trained = {table[label] for label in contents.pixels} - {dataset.ignore_index}
        for label, name in enumerate(dataset.metainfo['classes']):
            if label not in trained:
                message = f'class {label} ({name}) has no pixels'
                (contents.fault if training else contents.note)('class without pixels', message)
        if len(trained) == 1 and dataset.ignore_index in {table[label] for label in contents.pixels}:
            (label,) = trained
            path = dataset.get_data_info(0)['seg_map_path']
            name = dataset.metainfo['classes'][label]
            why = explain_one_class(len(contents.sizes), path, label, name, dataset.reduce_zero_label)
            contents.fault('one class', why)
        if suspicion := suspect_reduce_zero_label(contents, dataset):
            contents.fault('reduce_zero_label', suspicion)
    if difference := differing_palettes(contents.colours):
        contents.fault(
            'palettes differ',
            f'the same label has different colours: in the masks of the images, {difference}; labels are the '
            'indices, so save all masks with one palette, or as grey images (tools/new_dataset.py does this)',
        )
    if isinstance(dataset, ADE20KDataset) and not dataset.ann_file and dataset._indices is None:
        for message in compare_with_release({Path(path).name: size for path, size in contents.sizes.items()}):
            contents.fault('ADE20K', message)


def _judge_images(contents: Contents) -> None:
    """Add a fault if 16-bit images are dark after loading."""
    if contents.highest and max(contents.highest.values()) < DARK:
        path, highest = max(contents.highest.items(), key=lambda item: item[1])
        contents.fault('16-bit images too dark', explain_dark(path, highest))


def _judge_depth(contents: Contents, dataset: BaseDepthDataset) -> None:
    """Add signs of wrong units."""
    if not contents.depths:
        return
    path = dataset.get_data_info(0)['depth_map_path']
    for kind, message in faults_of(contents.depths, path, dataset.depth_rescale_factor):
        contents.fault(kind, message)
    for kind, message in notes_of(contents.depths, path, dataset.invalid_value):
        contents.note(kind, message)


def _label_table(contents: Contents, dataset: BaseSegDataset) -> list[int]:
    """Return the table that maps each label on disk to the label for training."""
    size = max(256, *(label + 1 for label in contents.pixels))
    table = label_table(dataset.reduce_zero_label, dataset.label_map, size, dataset.ignore_index)
    return table.tolist()


def suspect_reduce_zero_label(contents: Contents, dataset: BaseSegDataset) -> str | None:
    """Return why ``reduce_zero_label`` seems wrong, or None."""
    count = len(dataset.label_map or dataset.metainfo['classes'])
    labels = {label for label in contents.pixels if label != dataset.ignore_index}
    highest, total = max(labels, default=0), sum(contents.pixels.values())
    share = contents.pixels[0] / max(total, 1)
    if not dataset.reduce_zero_label and highest == count:
        return (
            f'masks contain labels up to {highest}, but the last of {count} classes is {count - 1}; 0 may '
            f"mean 'no label' ({share:.1%} of the pixels), which needs reduce_zero_label=True"
        )
    if dataset.reduce_zero_label and share > 0 and highest < count:
        return (
            f'no mask contains the label {count}, the last class, while 0, {share:.1%} of the pixels, is '
            'ignored: labels seem to start at 0, which needs reduce_zero_label=False'
        )
    return None


def judge_overlap(training: Contents, other: Contents) -> None:
    """Add a fault to ``other`` for each image that is also in ``training``."""
    trained = {str(Path(path).resolve()) for path in training.sizes}
    for path in sorted(trained & {str(Path(path).resolve()) for path in other.sizes}):
        other.fault('also in the training data', f'{path} is also in {training.name}')


def as_dict(contents: Contents) -> dict:
    """Return the contents as plain values for JSON.

    ``labels`` has one row per label on disk; ``depth`` exists if there is any.
    """
    dataset, rows = contents.dataset, []
    if dataset is not None and contents.pixels:
        classes, table = dataset.metainfo['classes'], _label_table(contents, dataset)
        for label in sorted(contents.pixels):
            trained = table[label]
            name = '(OUTSIDE)' if trained >= len(classes) else classes[trained]
            if trained == dataset.ignore_index:
                name = '(no label)'
            counts = dict(pixels=contents.pixels[label], images=contents.images[label])
            rows.append(dict(label=label, trained=trained, name=name, **counts))
    found: dict[str, Any] = dict(name=contents.name, images=len(contents.sizes))
    sizes = np.array([size for size in contents.sizes.values() if size], int).reshape(-1, 2)
    for key, values in (('heights', sizes[:, 0]), ('widths', sizes[:, 1])):
        spread = dict(min=values.min(), median=np.median(values), max=values.max()) if len(values) else {}
        found[key] = {name: int(value) for name, value in spread.items()}
    if contents.depths:
        found['depth'] = summary(contents.depths)
    return dict(found, modes=dict(contents.modes), labels=rows, faults=contents.faults, notes=contents.notes)


def render(contents: Contents) -> str:
    """Return the contents as a text report."""
    found = as_dict(contents)
    lines = [f'== {found["name"]}: {found["images"]} images']
    if found['heights']:
        height, width = (
            ' '.join(f'{key} {value}' for key, value in found[side].items()) for side in ('heights', 'widths')
        )
        modes = ', '.join(f'{count} {mode}' for mode, count in contents.modes.most_common())
        lines.append(f'height {height}; width {width}; {modes}')
    if found['labels']:
        total = sum(row['pixels'] for row in found['labels'])
        lines.append(f'{"on disk":>8} {"trained":>8} {"% pixels":>9} {"images":>7}  class')
        for row in found['labels']:
            share = 100 * row['pixels'] / total
            lines.append(
                f'{row["label"]:>8} {row["trained"]:>8} {share:>9.3f} {row["images"]:>7}  {row["name"]}'
            )
    lines += histogram(found['depth']) if 'depth' in found else []
    for title, messages in (('FAULT', contents.faults), ('note', contents.notes)):
        for kind, texts in messages.items():
            lines.append(f'{title}: {kind}: {len(texts)}')
            lines += [f'    {text}' for text in texts[:SHOWN]]
            if len(texts) > SHOWN:
                lines.append(f'    and {len(texts) - SHOWN} more')
    return '\n'.join(lines)
