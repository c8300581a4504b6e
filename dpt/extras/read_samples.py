"""Read the samples of a data set one by one, in several processes, and record their faults."""

import io
import multiprocessing
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dpt.config.walk import transforms_of
from dpt.datasets.bad_sample import DECODER_ERRORS, FILE_ERRORS, BadSampleError, name_sample, read_file
from dpt.datasets.depth import BaseDepthDataset
from dpt.datasets.labels import is_unlabelled
from dpt.datasets.pairs import PairDataset
from dpt.datasets.transforms.loading import is_16_bit
from dpt.extras.check_depth import FEWEST_PIXELS, DepthRecord
from dpt.extras.own_data.annotations import Colour, palette_of
from dpt.registry import TRANSFORMS

CHUNK = 16
"""Number of samples per task of a worker."""
UPRIGHT = (None, 0, 1)
ORIENTATION = 274  # EXIF tag


@dataclass
class Record:
    """Result of checking one sample.

    Args:
        image: Path of the image.
        size: (height, width); None if the image cannot be read.
        mode: Format and mode of the image according to Pillow; empty if unknown.
        highest: Highest value of a 16-bit image after loading; None for other images.
        counts: Number of pixels of each label in the mask file.
        colours: RGB colour of each of these labels, if the mask has a palette.
        depth: Statistics of the depth, if the data set has any.
        faults: Kind and message of each fault that makes this a bad sample.
        notes: Kind and message of each finding that may be intended.
    """

    image: str
    size: tuple[int, int] | None = None
    mode: str = ''
    highest: int | None = None
    counts: dict[int, int] = field(default_factory=dict)
    colours: dict[int, Colour] = field(default_factory=dict)
    depth: DepthRecord | None = None
    faults: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


class Inspector:
    """Reads samples with the loading steps of a pipeline, and records faults instead of raising errors.

    Args:
        dataset: Initialised data set.
        pipeline: Config of the pipeline.
        with_annotations: Whether to read masks or depth.
    """

    def __init__(self, dataset: PairDataset, pipeline: Sequence, with_annotations: bool) -> None:
        self.dataset = dataset
        of_depth = isinstance(dataset, BaseDepthDataset)
        self.reads = [self._read_image]
        if with_annotations:
            self.reads.append(self._read_depth if of_depth else self._read_mask)
        steps = {step['type']: step for step in reversed(transforms_of(list(pipeline)))}
        self.image_step, self.annotation_step = (
            TRANSFORMS.build(dict(steps.get(name, dict(type=name))))
            for name in ('LoadImageFromFile', 'LoadDepthAnnotation' if of_depth else 'LoadAnnotations')
        )

    def __call__(self, index: int) -> Record:
        """Read one sample and return its record."""
        sample = self.dataset.get_data_info(index)
        record = Record(sample['img_path'])
        for read in self.reads:
            try:
                read(sample, record)
            except FILE_ERRORS as error:
                bad = name_sample(error, sample)
                record.faults.append((bad.kind, str(bad)))
        return record

    def _read_image(self, sample: dict, record: Record) -> None:
        path = sample['img_path']
        content = read_file(path, 'image', self.image_step.backend_args)
        decoded = self.image_step.decode(content, path)
        record.size = sample['ori_shape'] = decoded.shape[:2]
        if is_16_bit(content):
            record.highest = int(decoded.max())
        orientation = None
        with suppress(BadSampleError), open_image(io.BytesIO(content), path) as image:  # OpenCV has read it
            bits = '' if record.highest is None else ' (16 bits)'
            record.mode = f'{image.format} {image.mode}{bits}'
            orientation = orientation_of(image)
        if orientation not in UPRIGHT:
            message = f'{path} has the EXIF orientation {orientation} and is rotated on loading'
            record.notes.append(('EXIF orientation', message))

    def _read_mask(self, sample: dict, record: Record) -> None:
        path = sample['seg_map_path']
        labels = self.annotation_step.read(path)
        record.counts = count_labels(labels)
        palette = palette_of(path)
        record.colours = {label: palette[label] for label in record.counts if label in palette}
        trained = self.annotation_step.place(labels, sample)['gt_seg_map']
        if is_unlabelled(trained, sample['ignore_index']):
            record.notes.append(('no labelled pixel', f'mask {path} has no labelled pixel'))

    def _read_depth(self, sample: dict, record: Record) -> None:
        path = sample['depth_map_path']
        values = self.annotation_step.read(path)
        depth = self.annotation_step.place(values, sample)['gt_depth_map']
        record.depth = DepthRecord.of(values, depth)
        if record.depth.measured < FEWEST_PIXELS:
            share = f'{record.depth.measured:.2%}'
            record.notes.append(('hardly any depth', f'depth {path} has only {share} measured pixels'))


def open_image(file: Path | io.BytesIO, name: Path | str) -> Image.Image:
    """Open an image with Pillow; raise BadSampleError if it is damaged or larger than Pillow allows."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            return Image.open(file)
    except DECODER_ERRORS as error:
        raise BadSampleError(f'image {name} cannot be read: {error}', 'image damaged') from error


def orientation_of(image: Image.Image) -> int | None:
    """Return the EXIF orientation of an image, or None if it has none, or none that can be read."""
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # Pillow raises many types for damaged EXIF data, which loading ignores
        return None


def count_labels(labels: np.ndarray) -> dict[int, int]:
    """Return the number of pixels of each label in the map."""
    if labels.dtype == np.uint8:
        counts = np.bincount(labels.ravel())
        return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


_inspector: Inspector  # set in each worker process


def _start(inspector: Inspector) -> None:
    global _inspector
    _inspector = inspector
    cv2.setNumThreads(0)


def _inspect(index: int) -> Record:
    return _inspector(index)


def read_all(inspector: Inspector, workers: int) -> Iterator[Record]:
    """Yield the records of all samples in order, read by ``workers`` processes, or by this process if 0.

    Raises:
        ValueError: If a worker dies.
    """
    indices = range(len(inspector.dataset))
    if not workers:
        yield from map(inspector, indices)
        return
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else None
    done = 0
    with ProcessPoolExecutor(workers, multiprocessing.get_context(method), _start, (inspector,)) as pool:
        try:
            for record in pool.map(_inspect, indices, chunksize=CHUNK):
                yield record
                done += 1
        except BrokenProcessPool as error:
            first = inspector.dataset.get_data_info(done)['img_path']
            raise ValueError(
                f'a process that reads images died, at {first} or one of the next {CHUNK * workers} images, '
                'because it ran out of memory or a file crashed its decoder; --workers 0 shows which'
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
