"""Convert the label ids in the published masks of Cityscapes to the 19 train ids.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/dataset_converters/cityscapes.py data/cityscapes
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from dpt.cli import one_line_errors
from dpt.extras.files import write_labels

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label ids of the 19 train ids, in order."""
LAST_LABEL_ID = 33
COUNTS = dict(train=2975, val=500, test=1525)
SOURCE, TARGET = '_labelIds.png', '_labelTrainIds.png'


def convert(source: Path) -> None:
    """Write the train ids of a mask to the same folder, like Cityscapes' createTrainIdLabelImgs."""
    labels = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8 or labels.max() > LAST_LABEL_ID:
        raise ValueError(f'{source} is not a grey PNG with label ids 0 to {LAST_LABEL_ID}: unpack it again')
    table = np.full(256, 255, np.uint8)
    table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    write_labels(source.with_name(source.name.replace(SOURCE, TARGET)), cv2.LUT(labels, table))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='folder with leftImg8bit/ and gtFine/')
    parser.add_argument('--gt-dir', default='gtFine', help='folder of masks in root (default: gtFine)')
    args = parser.parse_args()
    with one_line_errors():
        sources = sorted((args.root / args.gt_dir).glob(f'*/*/*{SOURCE}'))
        if not sources:
            raise FileNotFoundError(
                f'no {args.root / args.gt_dir}/SPLIT/CITY/*{SOURCE}: unpack gtFine_trainvaltest.zip and '
                'leftImg8bit_trainvaltest.zip from www.cityscapes-dataset.com (account required) into '
                f'{args.root}'
            )
        for source in track(sources, 'train ids'):
            convert(source)
        for split, expected in COUNTS.items():
            count = sum(source.parent.parent.name == split for source in sources)
            print(f'{split}: {count} masks' + (f' of {expected}' if args.gt_dir == 'gtFine' else ''))


if __name__ == '__main__':
    main()
