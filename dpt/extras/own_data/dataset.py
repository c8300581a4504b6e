"""Read all annotations, split the images, and write split files and converted masks."""

import hashlib
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dpt.datasets.bad_sample import FILE_ERRORS
from dpt.extras.files import write_labels, write_lines
from dpt.extras.own_data.annotations import Pairs, Reader, stem
from dpt.extras.own_data.classes import Proposal
from dpt.extras.read_samples import UPRIGHT, count_labels, open_image, orientation_of
from dpt.structures import IGNORE_INDEX

Track = Callable[[Iterable], Iterable]
"""Wraps an iterable to show progress."""

MAX_NUMBERS = 1000
"""Annotations with more distinct integers are rejected."""
TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""
REMOVE_ORIENTATION = (
    'if the masks were drawn on the stored pixels, remove the orientation from the images, such as with '
    'exiftool -Orientation= FOLDER'
)
SPLIT_FOLDERS = {
    **dict.fromkeys(('train', 'training'), 'training'),
    **dict.fromkeys(('val', 'valid', 'validation'), 'validation'),
    **dict.fromkeys(('test', 'testing'), 'test'),
}
"""Split by folder name."""
RECORD = 'new_dataset.json'
"""Describes how a folder was created, and marks it as replaceable."""
MASKS = 'annotations'


@dataclass
class Survey:
    """Image sizes and annotation statistics of all pairs.

    Args:
        sizes: (height, width) by image.
        counts: Number of pixels of each integer, by image.
        rotated: EXIF orientation by image, for images that are rotated on loading.
        problems: Error message by image, for images that cannot be used.
    """

    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    counts: dict[str, dict[int, int]] = field(default_factory=dict)
    rotated: dict[str, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def pixels(self) -> Counter:
        """Number of pixels of each integer."""
        total: Counter = Counter()
        for counts in self.counts.values():
            total.update(counts)
        return total

    @property
    def images(self) -> Counter:
        """Number of images that contain each integer."""
        return Counter(number for counts in self.counts.values() for number in counts)

    def median_size(self) -> tuple[int, int]:
        """Return the median (height, width)."""
        height, width = np.median(list(self.sizes.values()), axis=0)
        return int(height), int(width)


def survey(pairs: Pairs, reader: Reader, workers: int, track: Track = iter) -> Survey:
    """Read all annotations and image sizes with ``workers`` threads.

    Raises:
        ValueError: If the annotations contain more than ``MAX_NUMBERS`` distinct integers.
    """
    result, seen = Survey(), set()

    def look(pair: tuple[str, str]) -> tuple[str, tuple[int, int], dict[int, int] | str]:
        image, annotation = pair
        try:
            size, orientation = image_size(pairs.images / image)
            if orientation not in UPRIGHT:
                result.rotated[image] = orientation
            labels = reader.read(pairs.masks / annotation, size)
        except FILE_ERRORS as error:
            return image, (0, 0), str(error)
        if labels.shape != size:
            height, width = labels.shape
            problem = f'image {image} is {size[0]}x{size[1]} (height x width), but its mask {annotation} is '
            hint = f'; {REMOVE_ORIENTATION}' if labels.shape == size[::-1] and image in result.rotated else ''
            return image, size, f'{problem}{height}x{width}{hint}'
        return image, size, count_labels(labels)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for image, size, found in track(pool.map(look, pairs.found)):
            if isinstance(found, str):
                result.problems[image] = found
                continue
            result.sizes[image], result.counts[image] = size, found
            seen.update(found)
            if len(seen) > MAX_NUMBERS:
                pool.shutdown(wait=False, cancel_futures=True)
                raise ValueError(
                    f'{reader.kind} have more than {MAX_NUMBERS} distinct values up to {image}; each class '
                    'must have one value: are they photographs, or masks that were smoothed or saved as JPEG?'
                )
    return result


def image_size(path: Path) -> tuple[tuple[int, int], int | None]:
    """Return (height, width) of an image after applying its EXIF orientation, and the orientation."""
    with open_image(path, path) as image:
        width, height = image.size
        orientation = orientation_of(image)
        turned = orientation in TURNED and image.format != 'TIFF'  # where Pillow has applied it
    return ((width, height) if turned else (height, width)), orientation


def split(images: Sequence[str], val_share: float, seed: int) -> dict[str, list[str]]:
    """Split images by the folders train and val if they exist, otherwise by a hash of each name.

    Adding images does not move other images to another split. At least one image is used for validation.

    Args:
        images: Relative paths.
        val_share: Share of validation images, between 0 and 1.
        seed: Seed of the hash.

    Returns:
        Sorted images of 'training', 'validation' and, if there is such a folder, 'test'.

    Raises:
        ValueError: If no training images are left, or the share is not between 0 and 1.
    """
    if not 0 < val_share < 1:
        raise ValueError(f'--val-share {val_share}: expected a number between 0 and 1')
    folders = [SPLIT_FOLDERS.get(name.split('/')[0].lower()) for name in images]
    if all(folders) and {'training', 'validation'} <= set(folders):
        named = ('training', 'validation', 'test')
        lists = {one: sorted(i for i, f in zip(images, folders, strict=True) if f == one) for one in named}
        return {one: names for one, names in lists.items() if names}
    if len(images) < 2:
        raise ValueError(
            f'{len(images)} images with annotations: at least 2 are needed, 1 of them for validation'
        )

    def place(name: str) -> float:
        digest = hashlib.sha256(f'{seed}/{stem(name)}'.encode()).digest()
        return int.from_bytes(digest[:8], 'big') / 2**64

    ordered = sorted(images, key=lambda name: (place(name), name))
    count = max(sum(place(name) < val_share for name in ordered), 1)
    if count == len(ordered):
        raise ValueError(f'--val-share {val_share} leaves none of the {len(ordered)} images for training')
    return {'training': sorted(ordered[count:]), 'validation': sorted(ordered[:count])}


def check_target(out: Path, sources: Iterable[Path], overwrite: bool) -> None:
    """Check that writing a folder does not overwrite files of the user.

    Raises:
        ValueError: If the folder contains or is inside a source, or exists and may not be replaced.
    """
    for source in sources:
        own, other = out.resolve(), source.resolve()
        if own == other or own in other.parents or other in own.parents:
            raise ValueError(f'--out {out} overlaps with {source}, which must not change: use another folder')
    if not out.exists():
        return
    if not (out / RECORD).is_file():
        raise ValueError(f'--out {out} exists and was not created by this tool: use another folder')
    if not overwrite:
        raise ValueError(f'--out {out} exists: use another folder, or --overwrite')


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Fill a temporary folder, then rename it to ``out``, so that ``out`` is complete or unchanged."""
    out.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex
    partial, old = (out.with_name(f'.{out.name}.{mark}.{kind}') for kind in ('partial', 'old'))
    try:
        partial.mkdir()
        yield partial
        if out.exists():
            os.replace(out, old)
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not out.exists():
            os.replace(old, out)
        shutil.rmtree(old, ignore_errors=True)


def write_dataset(
    out: Path,
    pairs: Pairs,
    reader: Reader,
    proposal: Proposal,
    lists: Mapping[str, list[str]],
    record: Mapping,
    track: Track = iter,
) -> None:
    """Write the folder of a data set atomically.

    Args:
        out: The folder.
        pairs: Images and annotations.
        reader: Reader of the annotations.
        proposal: Classes and labels.
        lists: Images of each split.
        record: Description of how the folder was created.
        track: Wraps the masks to show progress.
    """
    with whole_folder(out) as folder:
        cut = len(pairs.image_suffix)
        for name, images in lists.items():
            write_lines(folder / 'splits' / f'{name}.txt', (image[: len(image) - cut] for image in images))
        if not reads_in_place(pairs, proposal):
            used = {image for images in lists.values() for image in images}

            def convert(pair: tuple[str, str]) -> None:
                image, annotation = pair
                labels = reader.read(pairs.masks / annotation, image_size(pairs.images / image)[0])
                target = image.removesuffix(pairs.image_suffix)
                write_labels(folder / MASKS / f'{target}.png', apply_table(labels, proposal.table))

            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                for _ in track(pool.map(convert, [pair for pair in pairs.found if pair[0] in used])):
                    pass
        write_lines(folder / RECORD, [json.dumps(record, indent=1)])


def reads_in_place(pairs: Pairs, proposal: Proposal) -> bool:
    """Return whether training can read the user's masks without conversion."""
    return proposal.in_place and bool(pairs.image_suffix)


def apply_table(numbers: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """Map integers of shape HxW to uint8 labels; integers that are not in the table become 255."""
    known = np.array(sorted(table), np.int64)
    trained = np.array([table[number] for number in sorted(table)], np.uint8)
    at = np.searchsorted(known, numbers).clip(max=len(known) - 1)
    return np.where(known[at] == numbers, trained[at], np.uint8(IGNORE_INDEX))
