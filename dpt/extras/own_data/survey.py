"""What a user's annotations hold, read once."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from dpt.datasets.bad_sample import FILE_ERRORS
from dpt.extras.check_data.contents import ORIENTATION, count_labels
from dpt.extras.own_data.pairing import Pairs
from dpt.extras.own_data.readers import Reader

MAX_NUMBERS = 1000
"""More different colours than that are no classes."""
TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""


@dataclass
class Survey:
    """All that was read.

    Args:
        sizes: (height, width) by image.
        counts: Pixels of each number by image.
        problems: Pairs that cannot be used, a line each, by image.
    """

    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    counts: dict[str, dict[int, int]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def pixels(self) -> Counter:
        """Pixels of each number."""
        total: Counter = Counter()
        for counts in self.counts.values():
            total.update(counts)
        return total

    @property
    def images(self) -> Counter:
        """Images that hold each number."""
        return Counter(number for counts in self.counts.values() for number in counts)

    def median_size(self) -> tuple[int, int]:
        """Return the median (height, width)."""
        height, width = np.median(list(self.sizes.values()), axis=0)
        return int(height), int(width)


def image_size(path: str) -> tuple[int, int]:
    """Return (height, width) of an image as training sees it, turned by its EXIF orientation."""
    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(ORIENTATION) in TURNED
    return (width, height) if turned else (height, width)


def survey(
    pairs: Pairs, reader: Reader, workers: int, shown: Callable[[Iterable], Iterable] = iter
) -> Survey:
    """Read all annotations and the sizes of the images.

    Args:
        pairs: Images and annotations.
        reader: Reads the annotations.
        workers: Threads that read.
        shown: Passes results on and shows how far it is.

    Raises:
        ValueError: The annotations hold far too many colours to be classes.
    """
    result, seen = Survey(), set()

    def look(pair: tuple[str, str]) -> tuple[str, tuple[int, int] | None, dict[int, int] | str]:
        image, annotation = pair
        try:
            size = image_size(str(pairs.images / image))
            labels = reader.read(pairs.masks / annotation, size)
        except FILE_ERRORS as error:
            return image, None, str(error)
        if labels.shape != size:
            return (
                image,
                None,
                (
                    f'image {image} is {size[0]}x{size[1]} (height x width) but its mask {annotation} is '
                    f'{labels.shape[0]}x{labels.shape[1]}'
                ),
            )
        return image, size, count_labels(labels)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for image, size, found in shown(pool.map(look, pairs.found)):
            if size is None or isinstance(found, str):
                result.problems[image] = str(found)
                continue
            result.sizes[image], result.counts[image] = size, found
            seen.update(found)
            if len(seen) > MAX_NUMBERS:
                pool.shutdown(wait=False, cancel_futures=True)
                raise ValueError(
                    f'{reader.kind} hold more than {MAX_NUMBERS} different values by {image}: are they '
                    'photographs, or masks that were smoothed or saved as JPEG? Expected: one value a class'
                )
    return result
