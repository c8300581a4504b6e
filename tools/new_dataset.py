"""Create a data set and a training config from folders of images and annotations.

Annotations are masks (grey or palette images of class indices, or colour images), a folder of labelme JSON
files, or one COCO JSON file. The tool shows classes, labels and ignored values before it writes anything, and
never modifies your files.

With --depth, annotations are depth: 16-bit PNG, TIFF, EXR, .npy or .npz files. The tool shows their range.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/new_dataset.py photos/ masks/ --name streets --dry-run
    python tools/new_dataset.py photos/ depth/ --depth --unit mm --name rooms
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from dpt.cli import one_line_errors
from dpt.config.check import missing_weights
from dpt.config.load import find_config, read_config
from dpt.extras.check_depth import histogram, summary
from dpt.extras.files import write_lines
from dpt.extras.own_data.annotations import (
    ColourReader,
    IndexReader,
    LabelmeReader,
    Pairs,
    Reader,
    differing_palettes,
    image_reader,
    pair,
    palette_of,
    read_coco,
)
from dpt.extras.own_data.classes import Proposal, propose, read_classes
from dpt.extras.own_data.config import config_text
from dpt.extras.own_data.dataset import (
    REMOVE_ORIENTATION,
    Survey,
    check_target,
    reads_in_place,
    split,
    survey,
    write_dataset,
)
from dpt.extras.own_data.depth import (
    DepthSurvey,
    depth_config_text,
    factor_of,
    find_unit,
    likely_invalid,
    pair_depth,
    remarks,
    survey_depth,
    write_depth_splits,
)
from dpt.structures import IGNORE_INDEX

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'
SEGMENTATION, DEPTH = 'dpt_vit-s14_364x476_4k_camvid.py', 'depth_anything_v2_s_518x518_own_metric.py'
SHOWN = 5


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder of images, searched recursively')
    parser.add_argument(
        'masks', type=Path, help='folder of masks, labelme files or depth, or a COCO JSON file'
    )
    parser.add_argument('--depth', action='store_true', help='annotations are depth')
    parser.add_argument(
        '--unit', help='of depth: m, cm, mm, 1/256 (KITTI) or the metres for a number (default: found)'
    )
    parser.add_argument(
        '--invalid-value', type=float, help="number in depth files that means 'no measurement', besides 0"
    )
    parser.add_argument('--name', default='own', help='name of the data set and config (default: own)')
    parser.add_argument('--out', type=Path, help='folder for lists and converted masks (default: data/NAME)')
    parser.add_argument('--config', type=Path, help='config to write (default: configs/NAME.py)')
    parser.add_argument(
        '--base',
        type=Path,
        help='config to start from, a path or the name of an included one '
        f'(default: {SEGMENTATION}; depth: {DEPTH})',
    )
    parser.add_argument(
        '--img-suffix', default='', help='ending of the image names, e.g. _img.jpg (default: found)'
    )
    parser.add_argument(
        '--seg-map-suffix', default='', help='ending of the annotation names, e.g. _gt.png (default: found)'
    )
    parser.add_argument(
        '--classes',
        help='names a,b,c in label order, or a file with NAME or R G B NAME per line (lines with the same '
        'name are one class)',
    )
    parser.add_argument(
        '--ignore',
        nargs='+',
        metavar='LABEL',
        help='labels, colours (R,G,B) or names to ignore, or none (default: 255 in index masks)',
    )
    parser.add_argument(
        '--val-share', type=float, default=0.2, help='share of images for validation (default: 0.2)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the split (default: 0)')
    parser.add_argument('--skip-bad', action='store_true', help='skip pairs that cannot be used')
    parser.add_argument('--overwrite', action='store_true', help='replace files written by an earlier run')
    parser.add_argument('--dry-run', action='store_true', help='show the proposal without writing anything')
    parser.add_argument(
        '--workers', type=int, default=min(8, os.cpu_count() or 1), help='number of reading threads'
    )
    args = parser.parse_args()
    if not args.depth and (args.unit or args.invalid_value is not None):
        parser.error('--unit and --invalid-value need --depth')
    if args.depth and (args.classes or args.ignore):
        parser.error('--classes and --ignore do not go with --depth')
    args.base = args.base or CONFIGS / (DEPTH if args.depth else SEGMENTATION)
    return args


def progress(console: Console, what: str, total: int) -> Callable[[Iterable], Iterable]:
    def shown(items: Iterable) -> Iterable:
        with Progress(console=console, disable=not console.is_terminal) as bar:
            yield from bar.track(items, total=total, description=what)

    return shown


def open_annotations(args: argparse.Namespace) -> tuple[Pairs, Reader]:
    if args.masks.is_file():
        return read_coco(args.images, args.masks)
    pairs = pair(args.images, args.masks, args.img_suffix, args.seg_map_suffix)
    masks = [pairs.masks / mask for _, mask in pairs.found]
    if masks[0].suffix.lower() == '.json':
        return pairs, LabelmeReader.scan(pairs)
    for mask in masks if args.skip_bad else masks[:1]:
        try:
            return pairs, image_reader(mask)
        except ValueError:
            if not args.skip_bad:
                raise
    return pairs, image_reader(masks[0])


def palettes_differ(pairs: Pairs, found: Survey) -> str | None:
    """Return how the palettes of the masks differ, or None; raise a ``ValueError`` if only some have one."""
    colours, without = {}, ''
    for image, mask in pairs.found:
        if image in found.counts:
            palette, path = palette_of(pairs.masks / mask), str(pairs.masks / mask)
            colours[path] = {index: palette[index] for index in found.counts[image] if index in palette}
            without = without or ('' if palette else path)
    difference = differing_palettes(colours)
    if difference and without:
        raise ValueError(
            f'the palettes of the masks differ ({difference}), and {without} has no palette: save all masks '
            'as RGB images, or all as grey images of class indices'
        )
    return difference


def show(pairs: Pairs, reader: Reader, found: Survey, proposal: Proposal, lists: dict) -> None:
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    table = Table(title=f'{len(found.sizes)} images, {escape(reader.kind)}')
    for column in ('annotation', 'label', 'class', 'colour'):
        table.add_column(column)
    for column in ('pixels', 'images', 'to train'):
        table.add_column(column, justify='right')
    pixels, images = found.pixels, found.images
    training = lists['training']
    for number, label in sorted(proposal.table.items(), key=lambda item: (item[1], item[0])):
        name, colour = '(no label)', ''
        if label != IGNORE_INDEX:
            name = proposal.classes[label]
            if proposal.palette:
                red, green, blue = proposal.palette[label]
                colour = f'[rgb({red},{green},{blue})]██[/] {red},{green},{blue}'
        trained = sum(number in found.counts[image] for image in training)
        share = pixels[number] / max(sum(pixels.values()), 1)
        table.add_row(
            escape(reader.show(number)),
            *(str(label), escape(name), colour, f'{share:.2%}', str(images[number]), str(trained)),
        )
    console.print(table)
    labels = {proposal.table[number] for image in training for number in found.counts[image]}
    left = {label for number, label in proposal.table.items() if images[number]} - labels - {IGNORE_INDEX}
    if left:
        names = ', '.join(proposal.classes[label] for label in sorted(left))
        proposal.notes.append(f'in no training image: {names}; try another --seed')
    show_split(found, lists)
    print('masks: ' + ('used in place' if reads_in_place(pairs, proposal) else 'converted to class indices'))
    for note in (*pairs.notes, *proposal.notes):
        print(f'note: {note}')


def note_weights(pairs: Pairs, base: Path) -> None:
    """Add a note for each file of weights that the training needs and that is absent."""
    missing = missing_weights(read_config(str(base)))
    pairs.notes += [f'the training needs weights: {reason}' for _, reason in missing]


def show_split(found: Survey | DepthSurvey, lists: dict) -> None:
    height, width = found.median_size()
    print('split: ' + ', '.join(f'{len(names)} {one}' for one, names in lists.items()))
    sizes = len(set(found.sizes.values()))
    print(f'images: {"all" if sizes == 1 else f"{sizes} sizes, the median"} {width}x{height}')


def note_rotated(pairs: Pairs, found: Survey | DepthSurvey) -> None:
    """Add a note if images are rotated on loading."""
    if found.rotated:
        image, orientation = next(iter(sorted(found.rotated.items())))
        pairs.notes.append(
            f'{len(found.rotated)} images have an EXIF orientation, such as {image} ({orientation}), and '
            f'are rotated on loading, as in viewers; {REMOVE_ORIENTATION}'
        )


def drop_bad(pairs: Pairs, found: Survey | DepthSurvey, skip: bool) -> None:
    """Drop pairs that cannot be used, or raise a ``ValueError`` unless ``skip``."""
    if not found.problems:
        return
    lines = '\n'.join(list(found.problems.values())[:SHOWN])
    count = f'{len(found.problems)} of {len(pairs.found)} images cannot be used'
    if not skip:
        raise ValueError(f'{count}; correct them, or use --skip-bad:\n{lines}')
    pairs.found = [one for one in pairs.found if one[0] not in found.problems]
    if not pairs.found:
        raise ValueError(f'{count}:\n{lines}')
    pairs.notes.append(f'{count} and are skipped:\n{lines}')


def new_segmentation(args: argparse.Namespace, out: Path, config: Path) -> bool:
    """Propose and, unless it is a dry run, write a data set of segmentation; return whether it did."""
    wanted = read_classes(args.classes) if args.classes else []
    errors = Console(stderr=True)
    pairs, reader = open_annotations(args)
    found = survey(pairs, reader, args.workers, progress(errors, 'reading', len(pairs.found)))
    if isinstance(reader, IndexReader) and (difference := palettes_differ(pairs, found)):
        reader = ColourReader('palette images, read as colours')
        pairs.notes.append(f'palettes differ, so the colours are the classes: {difference}')
        found = survey(pairs, reader, args.workers, progress(errors, 'reading', len(pairs.found)))
    drop_bad(pairs, found, args.skip_bad)
    note_rotated(pairs, found)
    note_weights(pairs, args.base)
    proposal = propose(found.pixels, reader, wanted, args.ignore)
    lists = split([image for image, _ in pairs.found], args.val_share, args.seed)
    show(pairs, reader, found, proposal, lists)
    if args.dry_run:
        return False
    text = config_text(args.name, config, args.base, out, pairs, proposal, lists, found.median_size())
    record = dict(
        **record_of(args),
        kind=reader.kind,
        classes=proposal.classes,
        label_of={reader.show(number): label for number, label in proposal.table.items()},
    )
    total = sum(map(len, lists.values()))
    write_dataset(out, pairs, reader, proposal, lists, record, progress(errors, 'writing', total))
    write_lines(config, text.splitlines())
    return True


def new_depth(args: argparse.Namespace, out: Path, config: Path) -> bool:
    """Propose and, unless it is a dry run, write a data set of depth; return whether it did."""
    pairs = pair_depth(args.images, args.masks, args.img_suffix, args.seg_map_suffix)
    factor = factor_of(args.unit) if args.unit else find_unit(pairs)
    track = progress(Console(stderr=True), 'reading', len(pairs.found))
    found = survey_depth(pairs, factor, args.invalid_value, args.workers, track)
    marker = likely_invalid(found) if args.invalid_value is None else None
    if marker is not None:
        pairs.notes.append(f"{marker} is taken for 'no measurement'; otherwise give --invalid-value 0")
        found = survey_depth(pairs, factor, marker, args.workers, track)
    drop_bad(pairs, found, args.skip_bad)
    note_rotated(pairs, found)
    note_weights(pairs, args.base)
    lists = split([image for image, _ in pairs.found], args.val_share, args.seed)
    print('\n'.join(histogram(summary(list(found.records.values())))))
    print(f'unit: {factor:g} m for a number in the files')
    show_split(found, lists)
    for note in (*pairs.notes, *remarks(pairs, found)):
        print(f'note: {note}')
    if args.dry_run:
        return False
    text = depth_config_text(args.name, config, args.base, out, pairs, found, lists)
    record = dict(**record_of(args), depth_rescale_factor=factor, invalid_value=found.invalid)
    write_depth_splits(out, pairs, lists, record)
    write_lines(config, text.splitlines())
    return True


def record_of(args: argparse.Namespace) -> dict:
    """Return the part of the record that both kinds of data sets share."""
    return dict(
        images=str(args.images.resolve()),
        annotations=str(args.masks.resolve()),
        val_share=args.val_share,
        seed=args.seed,
    )


def main() -> None:
    with one_line_errors():
        args = parse_args()
        if not re.fullmatch(r'\w[\w.-]*', args.name):
            raise ValueError(f'--name {args.name}: use only letters, digits, _, - and .')
        out, config = args.out or Path('data') / args.name, args.config or Path('configs') / f'{args.name}.py'
        try:
            args.base = Path(find_config(str(args.base)))
        except FileNotFoundError as error:
            raise FileNotFoundError(f'--base: {error}') from None
        if args.base.is_relative_to(Path.cwd()):  # the checkout may move, with the new config in it
            args.base = args.base.relative_to(Path.cwd())
        if not args.dry_run:
            check_target(out, (args.images, args.masks), args.overwrite)
            if config.exists() and not args.overwrite:
                raise ValueError(f'--config {config} exists: use another --name or --config, or --overwrite')
        written = (new_depth if args.depth else new_segmentation)(args, out, config)
        if not written:
            print('\nnothing was written (--dry-run)')
            return
        print(f'\nwritten: {out}, {config}\nnext:')
        print(f'  dpt check_data {config}')
        print(f'  dpt train {config}')
        print(f'  dpt test {config} work_dirs/{config.stem}/CHECKPOINT')


if __name__ == '__main__':
    main()
