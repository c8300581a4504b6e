"""Add the masks of the Semantic Boundaries Dataset (SBD) to PASCAL VOC 2012.

Requires scipy: pip install 'dense-prediction-transformers[data]'.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/dataset_converters/voc_aug.py data/VOCdevkit/VOC2012 data/VOCaug
"""

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track

from dpt.cli import one_line_errors
from dpt.extras.files import write_labels, write_lines

LISTS = 'ImageSets/Segmentation'
MASKS = 'SegmentationClassAug'
AUGMENTED = 10582
"""Number of training images in 'VOC aug', as it is called in the literature."""
NUM_CLASSES = 21


def convert(source: Path, voc: Path) -> None:
    """Convert a mask ``cls/NAME.mat`` to a PNG in the folder ``VOC2012``."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ValueError('reading .mat files needs scipy: pip install scipy') from error
    try:
        labels = np.asarray(loadmat(source)['GTcls'][0]['Segmentation'][0])
    except Exception as error:  # the exceptions of scipy have no common base class
        raise ValueError(f'{source} is not an SBD mask: {error}; unpack it again') from error
    if labels.ndim != 2 or labels.max(initial=0) >= NUM_CLASSES:
        raise ValueError(
            f'{source} has labels of shape {labels.shape} up to {labels.max()}, expected HxW up to 20'
        )
    write_labels(voc / MASKS / f'{source.stem}.png', labels.astype(np.uint8))


def write_splits(voc: Path, sbd: Path) -> dict[str, int]:
    """Write split files: ``aug.txt`` (only in SBD) and ``trainaug.txt`` (all but VOC's validation images).

    Returns:
        Number of images by file name.
    """
    training, validation, *larger = (
        set((folder / f'{split}.txt').read_text().split())
        for folder in (voc / LISTS, sbd)
        for split in ('train', 'val')
    )
    augmented = set.union(*larger)
    lists = {
        'aug.txt': sorted(augmented - training - validation),
        'trainaug.txt': sorted((augmented | training) - validation),
    }
    for name, images in lists.items():
        write_lines(voc / LISTS / name, images)
    return {name: len(images) for name, images in lists.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('voc', type=Path, help='folder VOC2012, with JPEGImages/')
    parser.add_argument('sbd', type=Path, help='unpacked folder of SBD, with dataset/cls/*.mat')
    args = parser.parse_args()
    with one_line_errors():
        sbd = args.sbd / 'dataset' if (args.sbd / 'dataset').is_dir() else args.sbd
        sources = sorted((sbd / 'cls').glob('*.mat'))
        if not sources:
            raise FileNotFoundError(
                f'no {sbd / "cls"}/*.mat: unpack benchmark.tgz of SBD, which contains dataset/cls'
            )
        for source in track(sources, 'masks'):
            convert(source, args.voc)
        counts = write_splits(args.voc, sbd)
        print(f'{len(sources)} masks; ' + ', '.join(f'{name}: {count}' for name, count in counts.items()))
        if counts['trainaug.txt'] != AUGMENTED:
            print(f'note: the complete data sets have {AUGMENTED} training images (trainaug.txt)')


if __name__ == '__main__':
    main()
