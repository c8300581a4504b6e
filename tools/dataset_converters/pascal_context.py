"""Write the masks of Pascal Context from PASCAL in Detail.

Requires pycocotools: pip install 'dense-prediction-transformers[data]'.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/dataset_converters/pascal_context.py data/VOCdevkit/VOC2010
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from dpt.cli import one_line_errors
from dpt.extras.files import write_labels, write_lines

JSON = 'trainval_merged.json'
MASKS, LISTS = 'SegmentationClassContext', 'ImageSets/SegmentationContext'
COUNTS = dict(train=4998, val=5105)
# Category ids (of the 459 in the first release) of the labels 1 to 59; both are in alphabetical order.
CATEGORIES = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115),
    *(144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349),
    *(354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
)
LABEL_OF = {0: 0, **{category: label for label, category in enumerate(CATEGORIES, 1)}}


def read_annotations(path: Path) -> tuple[list[dict], dict[int, list[dict]]]:
    """Return the training and validation images, and the annotations by image id."""
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist: download {JSON} of PASCAL in Detail, which was published at '
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
    """Return the labels 0 to 59 of an image, HxW uint8; later annotations cover earlier ones.

    Args:
        image: Dict with ``height``, ``width`` and ``file_name``.
        annotations: Dicts with ``category_id`` and a run-length ``segmentation``.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ValueError('reading run-length masks needs pycocotools: pip install pycocotools') from error
    labels = np.zeros((image['height'], image['width']), np.uint8)
    for one in annotations:
        category = one['category_id']
        if category not in LABEL_OF:
            raise ValueError(
                f'{image["file_name"]}: category {category} is not one of the 59 merged categories of {JSON}'
            )
        covered = mask.decode(one['segmentation'])
        if covered.shape != labels.shape:
            raise ValueError(
                f'{image["file_name"]}: an annotation has size {covered.shape}, but the image {labels.shape}'
            )
        labels[covered > 0] = LABEL_OF[category]
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('voc', type=Path, help='folder VOC2010, with JPEGImages/')
    parser.add_argument('--json', type=Path, help=f'annotations (default: {JSON} in VOC)')
    args = parser.parse_args()
    with one_line_errors():
        images, annotations = read_annotations(args.json or args.voc / JSON)
        for image in track(images, 'masks'):
            target = args.voc / MASKS / f'{Path(image["file_name"]).stem}.png'
            write_labels(target, paint(image, annotations[image['image_id']]))
        for phase, expected in COUNTS.items():
            names = sorted(Path(image['file_name']).stem for image in images if image['phase'] == phase)
            write_lines(args.voc / LISTS / f'{phase}.txt', names)
            print(f'{phase}: {len(names)} of {expected} masks')


if __name__ == '__main__':
    main()
