"""Pascal Context from the file of annotations of PASCAL in Detail, ``trainval_merged.json``."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpt.extras.conversion.files import write_lines, write_mask

JSON = 'trainval_merged.json'
MASKS, LISTS = 'SegmentationClassContext', 'ImageSets/SegmentationContext'
COUNTS = dict(train=4998, val=5105)
# Category of each label 1 to 59 among the 459 of the first release: all are in alphabetical order.
CATEGORIES = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115),
    *(144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349),
    *(354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
)
LABEL_OF = {0: 0, **{category: label for label, category in enumerate(CATEGORIES, 1)}}


def read_annotations(path: Path) -> tuple[list[dict], dict[int, list[dict]]]:
    """Read the images of the training and the validation set, and the annotations by image.

    Raises:
        FileNotFoundError: The file is missing; the message says where it comes from.
        ValueError: It is another file.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist: get {JSON} of PASCAL in Detail, which was published at '
            f'https://codalabuser.blob.core.windows.net/public/{JSON}; the images are those of VOC 2010'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        images = [image for image in content['images'] if image['phase'] in COUNTS]
        annotations: dict[int, list[dict]] = defaultdict(list)
        for one in content['annos_segmentation']:
            annotations[one['image_id']].append(one)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is not {JSON} of PASCAL in Detail: {error!r}') from error
    return images, annotations


def paint(image: dict, annotations: Sequence[dict]) -> np.ndarray:
    """Return the labels 0 to 59 of an image, HxW uint8; of two annotations the later one is on top.

    Args:
        image: With ``height``, ``width`` and ``file_name``.
        annotations: With ``category_id`` and a run-length ``segmentation``.

    Raises:
        ValueError: A category is not one of the 59, a mask has another size, or pycocotools is missing.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ValueError('reading run-length masks needs pycocotools: pip install pycocotools') from error
    labels = np.zeros((image['height'], image['width']), np.uint8)
    for one in annotations:
        if one['category_id'] not in LABEL_OF:
            raise ValueError(
                f'{image["file_name"]}: category {one["category_id"]} is none of the 59: is it {JSON}, whose '
                'categories are merged?'
            )
        covered = mask.decode(one['segmentation'])
        if covered.shape != labels.shape:
            raise ValueError(
                f'{image["file_name"]}: an annotation of {covered.shape}, the image of {labels.shape}'
            )
        labels[covered > 0] = LABEL_OF[one['category_id']]
    return labels


def convert(image: dict, annotations: Sequence[dict], voc: Path) -> Path:
    """Write the mask of an image into the folder ``VOC2010``. Raises as :func:`paint`."""
    target = voc / MASKS / f'{Path(image["file_name"]).stem}.png'
    write_mask(target, paint(image, annotations))
    return target


def write_split_files(voc: Path, images: Sequence[dict]) -> dict[str, int]:
    """Write ``train.txt`` and ``val.txt``; return the names in each."""
    for phase in COUNTS:
        names = sorted(Path(image['file_name']).stem for image in images if image['phase'] == phase)
        write_lines(voc / LISTS / f'{phase}.txt', names)
    return {phase: sum(image['phase'] == phase for image in images) for phase in COUNTS}
