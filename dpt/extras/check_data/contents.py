"""Reading a whole data set before training: what is in it, and what is wrong with it."""

import io
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from mmengine import fileio
from PIL import Image

from dpt.datasets.bad_sample import FILE_ERRORS, name_sample, read_file
from dpt.datasets.labels import is_unlabelled
from dpt.datasets.segmentation import BaseSegDataset
from dpt.datasets.transforms import LoadAnnotations, LoadImageFromFile
from dpt.registry import DATASETS, TRANSFORMS

CHUNK = 16
"""Samples that a worker reads in one go."""
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
UPRIGHT = (None, 0, 1)
ORIENTATION = 274  # EXIF tag


@dataclass
class Record:
    """What is known of one sample.

    Args:
        image: Path of the image.
        size: (height, width); None if it cannot be read.
        mode: Pillow's name of how colours are stored; empty if unknown.
        counts: Pixels of each label of the mask as it is on disk.
        faults: Kind and message of what makes it a bad sample.
        notes: Kind and message of what may be meant so.
    """

    image: str
    size: tuple[int, int] | None = None
    mode: str = ''
    counts: dict[int, int] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Contents:
    """What is known of a data set: the sum of its records.

    Args:
        name: Which loaders read it.
        dataset: The data set; None if its folders could not be listed.
        sizes: (height, width) by image; None for one that cannot be read.
        modes: How often colours are stored how.
        pixels: Pixels of each label on disk.
        images: Images that hold each label.
        faults: Messages by kind; any is a reason not to train.
        notes: Messages by kind that may be meant so.
    """

    name: str
    dataset: BaseSegDataset | None = None
    sizes: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    modes: Counter = field(default_factory=Counter)
    pixels: Counter = field(default_factory=Counter)
    images: Counter = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Add a sample."""
        self.sizes[record.image] = record.size
        self.modes.update([record.mode] if record.mode else [])
        self.pixels.update(record.counts)
        self.images.update(record.counts.keys())
        for kind, message in record.faults:
            self.fault(kind, message)
        for kind, message in record.notes:
            self.note(kind, message)

    def fault(self, kind: str, message: str) -> None:
        """Add something wrong."""
        self.faults.setdefault(kind, []).append(message)

    def note(self, kind: str, message: str) -> None:
        """Add something worth a look."""
        self.notes.setdefault(kind, []).append(message)


def find_step(pipeline: object, name: str) -> dict:
    """Return the config of a transform in a pipeline, wherever it stands; its defaults if it is absent."""
    if isinstance(pipeline, Mapping):
        if pipeline.get('type') == name:
            return dict(pipeline)
        pipeline = list(pipeline.get('transforms') or ())
    for one in pipeline if isinstance(pipeline, (list, tuple)) else ():
        found = find_step(one, name)
        if len(found) > 1 or one == found:
            return found
    return dict(type=name)


def count_labels(labels: np.ndarray) -> dict[int, int]:
    """Return the pixels of each label that is there."""
    if labels.dtype == np.uint8:
        counts = np.bincount(labels.ravel())
        return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


class Inspector:
    """Reads samples as a pipeline does, and keeps what is wrong instead of raising it.

    Args:
        dataset: The data set, listed.
        pipeline: Config of the pipeline, whose loading steps are used.
        with_masks: Whether masks are read.
    """

    def __init__(self, dataset: BaseSegDataset, pipeline: Sequence, with_masks: bool) -> None:
        self.dataset = dataset
        self.image_step: LoadImageFromFile = TRANSFORMS.build(find_step(pipeline, 'LoadImageFromFile'))
        self.mask_step: LoadAnnotations = TRANSFORMS.build(find_step(pipeline, 'LoadAnnotations'))
        self.with_masks = with_masks

    def __call__(self, indices: Sequence[int]) -> list[Record]:
        """Read the samples with these numbers."""
        return [self.inspect(self.dataset.get_data_info(index)) for index in indices]

    def inspect(self, sample: dict) -> Record:
        """Read one sample."""
        record = Record(sample['img_path'])
        try:
            self._image(sample, record)
        except FILE_ERRORS as error:
            bad = name_sample(error, sample)
            record.faults.append((bad.kind, str(bad)))
        if self.with_masks:
            try:
                self._mask(sample, record)
            except FILE_ERRORS as error:
                bad = name_sample(error, sample)
                record.faults.append((bad.kind, str(bad)))
        return record

    def _image(self, sample: dict, record: Record) -> None:
        path = sample['img_path']
        content = read_file(path, 'image', self.image_step.backend_args)
        record.size = sample['ori_shape'] = self.image_step.decode(content, path).shape[:2]
        with Image.open(io.BytesIO(content)) as image:
            record.mode = f'{image.format} {image.mode}'
            orientation = image.getexif().get(ORIENTATION)
        if orientation not in UPRIGHT:
            record.notes.append(
                (
                    'EXIF orientation',
                    f'{path} has the EXIF orientation {orientation}: it is turned when it is read',
                )
            )

    def _mask(self, sample: dict, record: Record) -> None:
        path = sample['seg_map_path']
        labels = self.mask_step.read(path)
        record.counts = count_labels(labels)
        trained = self.mask_step.place(labels, sample)['gt_seg_map']
        if is_unlabelled(trained, sample['ignore_index']):
            record.notes.append(('no labelled pixel', f'mask {path} has no labelled pixel'))


def open_dataset(config: Mapping, name: str) -> Contents:
    """List a data set; what is missing becomes a fault.

    Args:
        config: Config of the data set.
        name: Which loaders read it.

    Raises:
        ValueError: It is of a type that cannot be checked.
    """
    kind = DATASETS.get(config['type']) if isinstance(config['type'], str) else config['type']
    if not (isinstance(kind, type) and issubclass(kind, BaseSegDataset)):
        raise ValueError(
            f'{name}.dataset.type={config["type"]!r}: only data sets of BaseSegDataset can be checked'
        )
    contents = Contents(name)
    given = {key: value for key, value in config.items() if key not in ('pipeline', 'max_bad_samples')}
    try:
        dataset = DATASETS.build({**given, 'pipeline': [], 'test_mode': True, 'lazy_init': True})
        if not config.get('test_mode') and dataset.data_prefix.get('seg_map_path') is None:
            raise ValueError("there are no masks: set data_prefix['seg_map_path'], or test_mode=True")
        dataset.full_init()
        if not config.get('test_mode'):
            masks = dataset.data_prefix['seg_map_path']
            if not fileio.isdir(masks, backend_args=dataset.backend_args):
                raise FileNotFoundError(dataset.explain_missing(masks))
    except (ValueError, OSError) as error:
        contents.fault('data set', str(error))
        return contents
    contents.dataset = dataset
    return contents


def inspect_files(contents: Contents, with_masks: bool) -> None:
    """Look for files that no sample uses, and for links to nothing."""
    dataset = contents.dataset
    assert dataset is not None
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    for path, times in Counter(paths).items():
        if times > 1:
            contents.fault('listed twice', f'{path} is listed {times} times')
    for stem, times in Counter(Path(path).stem for path in set(paths)).items():
        if times > 1:
            contents.note('same name', f'{times} images are called {stem}, in different folders')
    folders = {'image': dataset.data_prefix['img_path'], 'mask': dataset.data_prefix.get('seg_map_path')}
    for what, folder in folders.items():
        if folder is None or not os.path.isdir(folder) or (what == 'mask' and not with_masks):
            continue
        for path in sorted(Path(folder).rglob('*')):
            if path.is_symlink() and not path.exists():
                contents.fault('broken link', f'{what} {path} is a link to nothing')
    if not dataset.ann_file and dataset._indices is None:
        _inspect_unused(contents, paths, with_masks)


def _inspect_unused(contents: Contents, images: Sequence[str], with_masks: bool) -> None:
    dataset = contents.dataset
    assert dataset is not None
    folder, used = dataset.data_prefix['img_path'], set(images)
    masks = dataset.data_prefix.get('seg_map_path')
    for name in fileio.list_dir_or_file(folder, list_dir=False, recursive=True):
        path = os.path.join(folder, name)
        if path not in used and folder != masks and name.lower().endswith(IMAGE_SUFFIXES):
            contents.note('unused image', f'{path} is not used: img_suffix is {dataset.img_suffix!r}')
    if not with_masks or masks is None or folder == masks:
        return
    end = len(dataset.img_suffix)
    expected = {os.path.relpath(path, folder)[:-end] + dataset.seg_map_suffix for path in images}
    for name in fileio.list_dir_or_file(masks, list_dir=False, recursive=True):
        if name not in expected and name.endswith(dataset.seg_map_suffix):
            contents.note('mask without image', f'{os.path.join(masks, name)} belongs to no image')


_inspector: Inspector


def _start(inspector: Inspector) -> None:
    global _inspector
    _inspector = inspector
    cv2.setNumThreads(0)


def _work(indices: Sequence[int]) -> list[Record]:
    return _inspector(indices)


def read_all(inspector: Inspector, workers: int) -> Iterator[Record]:
    """Read all samples, in order.

    Args:
        inspector: What reads them.
        workers: Number of processes; 0 for this one.

    Raises:
        ValueError: A worker died.
    """
    size = len(inspector.dataset)
    chunks = [range(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]
    if not workers:
        for chunk in chunks:
            yield from inspector(chunk)
        return
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else None
    done = 0
    with ProcessPoolExecutor(workers, multiprocessing.get_context(method), _start, (inspector,)) as pool:
        try:
            for records in pool.map(_work, chunks):
                yield from records
                done += len(records)
        except BrokenProcessPool as error:
            first = inspector.dataset.get_data_info(done)['img_path']
            raise ValueError(
                f'a process that reads images died, at {first} or one of the next {CHUNK * workers}: out of '
                'memory, or a file that crashes its decoder; --workers 0 shows which'
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
