"""VOC 2012's training set made larger by the Semantic Boundaries Dataset (SBD)."""

from pathlib import Path

import numpy as np

from dpt.extras.conversion.files import read_lines, write_lines, write_mask

LISTS = 'ImageSets/Segmentation'
MASKS = 'SegmentationClassAug'
AUGMENTED = 10582
"""Training images that the literature calls 'VOC aug'."""
LABELS = 21


def find_sources(sbd: Path) -> list[Path]:
    """Return SBD's masks, sorted.

    Args:
        sbd: Folder of the unpacked release, or its ``dataset``.

    Raises:
        FileNotFoundError: There are none.
    """
    folder = _release(sbd) / 'cls'
    found = sorted(folder.glob('*.mat'))
    if not found:
        raise FileNotFoundError(f'no {folder}/*.mat: unpack benchmark.tgz of SBD, which holds dataset/cls')
    return found


def _release(sbd: Path) -> Path:
    return sbd / 'dataset' if (sbd / 'dataset').is_dir() else sbd


def convert(source: Path, voc: Path) -> Path:
    """Write the mask of a file of SBD into VOC's folder.

    Args:
        source: ``cls/NAME.mat``.
        voc: Folder ``VOC2012``.

    Raises:
        ValueError: The file holds no mask, or scipy is missing.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ValueError('reading .mat files needs scipy: pip install scipy') from error
    try:
        labels = np.asarray(loadmat(source)['GTcls'][0]['Segmentation'][0])
    except Exception as error:  # scipy raises whatever a damaged file leads it to
        raise ValueError(f'{source} is not a mask of SBD: {error}; unpack it again') from error
    if labels.ndim != 2 or labels.max(initial=0) >= LABELS:
        raise ValueError(
            f'{source} holds labels of shape {labels.shape} up to {labels.max()}: 20 was the last'
        )
    target = voc / MASKS / f'{source.stem}.png'
    write_mask(target, labels.astype(np.uint8))
    return target


def write_split_files(voc: Path, sbd: Path) -> dict[str, int]:
    """Write ``aug.txt``, SBD's images beyond VOC's, and ``trainaug.txt``, all but VOC's validation images.

    Returns:
        Names in each list.

    Raises:
        FileNotFoundError: A list of either data set is missing.
    """
    lists, release = voc / LISTS, _release(sbd)
    training, validation = set(read_lines(lists / 'train.txt')), set(read_lines(lists / 'val.txt'))
    larger = {*read_lines(release / 'train.txt'), *read_lines(release / 'val.txt')}
    written = {
        'aug.txt': sorted(larger - training - validation),
        'trainaug.txt': sorted((larger | training) - validation),
    }
    for name, lines in written.items():
        write_lines(lists / name, lines)
    return {name: len(lines) for name, lines in written.items()}
