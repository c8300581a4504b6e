"""What follows from the contents of data sets: suspicions, and the report of it all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpt.datasets.ade20k import ADE20KDataset
from dpt.datasets.transforms.loading import label_table
from dpt.extras.ade20k import compare_with_release
from dpt.extras.check_data.contents import Contents

SHOWN = 5
"""Messages of a kind that are printed; the JSON file has all."""


def trained_label(contents: Contents, label: int) -> int:
    """Return the trained label of a label on disk."""
    dataset = contents.dataset
    assert dataset is not None
    table = label_table(dataset.reduce_zero_label, dataset.label_map, size=max(256, label + 1))
    return int(table[label])


def trained_pixels(contents: Contents) -> np.ndarray:
    """Return the pixels of each class."""
    assert contents.dataset is not None
    pixels = np.zeros(len(contents.dataset.metainfo['classes']), np.int64)
    for label, count in contents.pixels.items():
        trained = trained_label(contents, label)
        if trained < len(pixels) and trained != contents.dataset.ignore_index:
            pixels[trained] += count
    return pixels


def judge(contents: Contents, training: bool) -> None:
    """Add what only the whole data set shows: classes never seen, a wrong setting, a wrong archive.

    Args:
        contents: All that was read.
        training: Whether it is trained on; a class may then not be absent.
    """
    dataset = contents.dataset
    if dataset is None:
        return
    if contents.pixels:
        absent = np.flatnonzero(trained_pixels(contents) == 0)
        for label in absent:
            message = f'class {label} ({dataset.metainfo["classes"][label]}) has no pixel'
            (contents.fault if training else contents.note)('class never seen', message)
        why = suspect_reduce_zero_label(contents)
        if why:
            contents.fault('reduce_zero_label', why)
    if isinstance(dataset, ADE20KDataset) and not dataset.ann_file and dataset._indices is None:
        for message in compare_with_release({Path(path).name: size for path, size in contents.sizes.items()}):
            contents.fault('ADE20K', message)


def suspect_reduce_zero_label(contents: Contents) -> str | None:
    """Return why ``reduce_zero_label`` looks wrong; None where it does not."""
    dataset = contents.dataset
    assert dataset is not None
    count = len(dataset.label_map or dataset.metainfo['classes'])
    labels = {label for label in contents.pixels if label != dataset.ignore_index}
    highest, total = max(labels, default=0), sum(contents.pixels.values())
    share = contents.pixels[0] / max(total, 1)
    if not dataset.reduce_zero_label and highest == count:
        return (
            f'masks hold labels up to {highest}, one more than the last of {count} classes: 0 seems to mean '
            f"'no label' ({share:.1%} of the pixels), which needs reduce_zero_label=True"
        )
    if dataset.reduce_zero_label and share > 0 and highest < count:
        return (
            f'no mask holds the label {count}, which would be the last class, and 0, in {share:.1%} of the '
            'pixels, is taken for no label: classes seem to count from 0, which needs reduce_zero_label=False'
        )
    return None


def judge_overlap(training: Contents, other: Contents) -> None:
    """Add images that are both trained on and evaluated."""
    both = {str(Path(path).resolve()) for path in training.sizes}
    both &= {str(Path(path).resolve()) for path in other.sizes}
    for path in sorted(both):
        other.fault('trained on, too', f'{path} is in {training.name}, too')


def histogram(contents: Contents) -> list[dict]:
    """Return a row for each label on disk: trained label, class, pixels and images."""
    if contents.dataset is None:
        return []
    classes, ignore = contents.dataset.metainfo['classes'], contents.dataset.ignore_index
    rows = []
    for label in sorted(contents.pixels):
        trained = trained_label(contents, label)
        name = (
            '(no label)' if trained == ignore else classes[trained] if trained < len(classes) else '(OUTSIDE)'
        )
        pixels, images = contents.pixels[label], contents.images[label]
        rows.append(dict(label=label, trained=trained, name=name, pixels=pixels, images=images))
    return rows


def as_dict(contents: Contents) -> dict:
    """Return all that was found as plain values, for JSON."""
    sizes = [size for size in contents.sizes.values() if size]
    return dict(
        name=contents.name,
        images=len(contents.sizes),
        heights=_spread([height for height, _ in sizes]),
        widths=_spread([width for _, width in sizes]),
        modes=dict(contents.modes),
        labels=histogram(contents),
        faults=contents.faults,
        notes=contents.notes,
    )


def _spread(values: Sequence[int]) -> dict:
    if not values:
        return {}
    return dict(min=min(values), median=int(np.median(values)), max=max(values))


def render(contents: Contents) -> str:
    """Return the report of one data set."""
    found = as_dict(contents)
    lines = [f'== {found["name"]}: {found["images"]} images']
    if found['heights']:
        spreads = [
            ' '.join(f'{key} {value}' for key, value in found[side].items()) for side in ('heights', 'widths')
        ]
        modes = ', '.join(f'{count} {mode}' for mode, count in contents.modes.most_common())
        lines += [f'height {spreads[0]}; width {spreads[1]}; {modes}']
    if found['labels']:
        total = sum(row['pixels'] for row in found['labels'])
        lines.append(f'{"on disk":>8} {"trained":>8} {"% pixels":>9} {"images":>7}  class')
        for row in found['labels']:
            share = 100 * row['pixels'] / total
            lines.append(
                f'{row["label"]:>8} {row["trained"]:>8} {share:>9.3f} {row["images"]:>7}  {row["name"]}'
            )
    for title, messages in (('FAULT', contents.faults), ('note', contents.notes)):
        for kind, told in messages.items():
            lines.append(f'{title}: {kind}: {len(told)}')
            lines += [f'    {message}' for message in told[:SHOWN]]
            if len(told) > SHOWN:
                lines.append(f'    and {len(told) - SHOWN} more')
    return '\n'.join(lines)
