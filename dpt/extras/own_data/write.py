"""The files of a new data set: masks where they had to be converted, lists and a config."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dpt.extras.conversion.files import write_lines, write_mask
from dpt.extras.own_data.classes import Proposal
from dpt.extras.own_data.pairing import Pairs, stem
from dpt.extras.own_data.readers import Reader
from dpt.extras.own_data.survey import image_size
from dpt.structures import IGNORE_INDEX

RECORD = 'new_dataset.json'
"""Says how a folder was made, and that it may be replaced."""
MASKS = 'annotations'


def check_target(out: Path, sources: Iterable[Path], overwrite: bool) -> None:
    """Refuse to write where files of the user are.

    Raises:
        ValueError: The folder holds, or lies in, a source, or exists and may not be replaced.
    """
    for source in sources:
        own, other = out.resolve(), source.resolve()
        if own == other or own in other.parents or other in own.parents:
            raise ValueError(
                f'--out {out} would mix with {source}, which is not touched: give another folder'
            )
    if not out.exists():
        return
    if not (out / RECORD).is_file():
        raise ValueError(f'--out {out} exists and was not made by this tool: give another folder')
    if not overwrite:
        raise ValueError(f'--out {out} exists: give another folder, or --overwrite')


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Fill a folder beside ``out``, then rename it: ``out`` is complete or as it was."""
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
    shown: Callable[[Iterable], Iterable] = iter,
) -> None:
    """Write a data set's folder, complete or not at all.

    Args:
        out: The folder.
        pairs: Images and annotations.
        reader: Reads the annotations.
        proposal: What they become.
        lists: Images of each split.
        record: How it was made.
        shown: Passes masks on and shows how far it is.

    Raises:
        OSError: It cannot be written.
    """
    with whole_folder(out) as folder:
        cut = len(pairs.image_suffix)
        for name, images in lists.items():
            write_lines(folder / 'splits' / f'{name}.txt', (image[: len(image) - cut] for image in images))
        if not reads_in_place(pairs, proposal):
            used = {image for images in lists.values() for image in images}
            todo = [pair for pair in pairs.found if pair[0] in used]

            def convert(pair: tuple[str, str]) -> None:
                image, annotation = pair
                labels = reader.read(pairs.masks / annotation, image_size(str(pairs.images / image)))
                target = stem(image) if pairs.image_suffix else image
                write_mask(folder / MASKS / f'{target}.png', apply_table(labels, proposal.table))

            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                for _ in shown(pool.map(convert, todo)):
                    pass
        write_lines(folder / RECORD, [json.dumps(record, indent=1)])


def reads_in_place(pairs: Pairs, proposal: Proposal) -> bool:
    """Whether training reads the user's own masks."""
    return proposal.in_place and bool(pairs.image_suffix)


def apply_table(numbers: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """Return the trained labels, uint8, of numbers of shape HxW; a number without entry is none."""
    known = np.array(sorted(table), np.int64)
    trained = np.array([table[number] for number in sorted(table)], np.uint8)
    at = np.searchsorted(known, numbers).clip(max=len(known) - 1)
    return np.where(known[at] == numbers, trained[at], np.uint8(IGNORE_INDEX))
