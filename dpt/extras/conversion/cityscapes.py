"""Cityscapes' label ids to the train ids of its benchmark."""

from pathlib import Path

import cv2
import numpy as np

from dpt.extras.conversion.files import write_mask
from dpt.structures import IGNORE_INDEX

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label id of each of the 19 train ids."""
LAST_LABEL_ID = 33
COUNTS = dict(train=2975, val=500, test=1525)
SOURCE, TARGET = '_labelIds.png', '_labelTrainIds.png'


def find_sources(root: Path, folder: str = 'gtFine') -> list[Path]:
    """Return the published masks, sorted.

    Args:
        root: Folder of the data set, with ``gtFine`` in it.
        folder: ``gtFine`` or ``gtCoarse``.

    Raises:
        FileNotFoundError: There are none.
    """
    found = sorted((root / folder).glob(f'*/*/*{SOURCE}'))
    if not found:
        raise FileNotFoundError(
            f'no {root / folder}/SPLIT/CITY/*{SOURCE}: unpack gtFine_trainvaltest.zip and '
            f'leftImg8bit_trainvaltest.zip of www.cityscapes-dataset.com (an account is needed) into {root}'
        )
    return found


def convert(source: Path) -> Path:
    """Write the train ids of a mask beside it, as Cityscapes' own createTrainIdLabelImgs does.

    Raises:
        ValueError: The file is not a mask of label ids.
    """
    labels = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8 or labels.max() > LAST_LABEL_ID:
        raise ValueError(f'{source} is not a grey PNG of label ids 0 to {LAST_LABEL_ID}: unpack it again')
    table = np.full(256, IGNORE_INDEX, np.uint8)
    table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    target = source.with_name(source.name.replace(SOURCE, TARGET))
    write_mask(target, cv2.LUT(labels, table))
    return target
