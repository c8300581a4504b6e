"""Propose the classes of annotations, which the user can check before anything is written."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dpt.config.parts import near
from dpt.datasets.text import text_lines
from dpt.extras.own_data.annotations import Colour, ColourReader, Reader
from dpt.structures import IGNORE_INDEX

NONE = 'none'
FOREGROUND = {0: 'background', IGNORE_INDEX: 'foreground'}
"""Classes of black and white masks, which contain only 0 and 255."""
_RGB = re.compile(r'(?<![\w.])(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})(?![\w.])')
_HEX = re.compile(r'#([0-9a-fA-F]{6})(?!\w)')
_HEADER = re.compile(r'\W*(name|class|label)\w*\W+r(ed)?\W+g(reen)?\W+b(lue)?\W*', re.IGNORECASE)
_PATH = re.compile(r'[^,]*(/[^,]*|\.(txt|csv|tsv|names|json))')


@dataclass
class Proposal:
    """Classes, and the label for each integer in the annotations.

    Args:
        classes: Class names, indexed by label.
        palette: RGB colours of the classes; None if the annotations have none.
        table: Label by integer in the annotations; 255 means ignored.
        in_place: Whether training can read the masks without conversion.
        reduce_zero_label: Whether training must then treat 0 as 'no label'.
        notes: Lines of text with points for the user to check.
    """

    classes: list[str]
    palette: list[Colour] | None
    table: dict[int, int]
    in_place: bool = False
    reduce_zero_label: bool = False
    notes: list[str] = field(default_factory=list)


def read_classes(text: str) -> list[tuple[str, Colour | None]]:
    """Read class names, either all with an RGB colour or all without.

    Args:
        text: Comma-separated names, or the path of a text file whose lines are ``NAME``, ``R G B NAME``,
            ``NAME: R,G,B`` or ``NAME #RRGGBB``; other lines that start with # are comments. A name with
            several colours is one class.

    Raises:
        FileNotFoundError: If ``text`` looks like a path, but the file does not exist.
        ValueError: If there are no names, repeated names without colours, repeated colours, colours for only
            some names, or colours above 255.
    """
    is_file = Path(text).is_file()
    if not is_file and _PATH.fullmatch(text):
        raise FileNotFoundError(f'--classes {text} does not exist; separate names with commas: a,b,c')
    if Path(text).suffix.lower() == '.json':
        raise ValueError(f'--classes {text}: expected a text file with one name per line, not JSON')
    lines = text_lines(Path(text).read_bytes(), f'--classes {text}') if is_file else text.split(',')
    found: list[tuple[str, Colour | None]] = []
    for at, line in enumerate(lines):
        line = _HEX.sub(lambda match: ' {} {} {} '.format(*bytes.fromhex(match[1])), line)
        if not line.strip() or line.lstrip().startswith('#') or (at == 0 and _HEADER.fullmatch(line)):
            continue
        match = _RGB.search(line)
        if match is None:
            found.append((line.strip(), None))
            continue
        name = (line[: match.start()] + line[match.end() :]).strip(' \t:;,')
        found.append((name, (int(match[1]), int(match[2]), int(match[3]))))
    names = [name for name, _ in found]
    if len(set(found)) != len(found) or '' in names or not names:
        raise ValueError(f'--classes {text}: expected distinct names, not {names}')
    colours = [colour for _, colour in found if colour is not None]
    if colours and len(colours) < len(found):
        raise ValueError(f'--classes {text}: expected a colour for all names or for none')
    beyond = [colour for colour in colours if max(colour) > 255]
    if beyond:
        raise ValueError(f'--classes {text}: {beyond[0]} is not a colour: values must be from 0 to 255')
    twice = [colour for colour, count in Counter(colours).items() if count > 1]
    if twice:
        raise ValueError(f'--classes {text}: {twice[0]} has several names; a colour can have only one class')
    return found


def propose(
    pixels: Mapping[int, int],
    reader: Reader,
    wanted: Sequence[tuple[str, Colour | None]] = (),
    ignore: Sequence[str] | None = None,
) -> Proposal:
    """Propose classes.

    Args:
        pixels: Number of pixels of each integer in the annotations.
        reader: Reader of the annotations.
        wanted: Names, optionally with colours, given by the user.
        ignore: Labels, colours (``R,G,B`` or ``#RRGGBB``) or names that are not classes, or only ``none``.
            None ignores 255 in index masks, unless they contain only 0 and 255.

    Raises:
        ValueError: If the names do not match the annotations, an entry of ``ignore`` does not occur, or there
            are fewer than 2 or more than 255 classes.
    """
    present = sorted(pixels)
    two_valued = reader.in_place and present == [0, IGNORE_INDEX] and ignore is None
    names = {**reader.names, **(FOREGROUND if two_valued else {})}
    colours = {number: reader.colour(number) for number in present}
    if isinstance(reader, ColourReader) and any(colour for _, colour in wanted):
        named = [(r << 16 | g << 8 | b, name) for name, (r, g, b) in wanted]  # type: ignore[misc]
        names, colours = dict(named), {number: reader.colour(number) for number, _ in named}
        ignored = _ignored(present, reader, names, ignore)
        left = [number for number in present if number not in names and number not in ignored]
        if left:
            raise ValueError(
                f'--classes has no name for {len(left)} colours of the masks: {_first(left, reader)}; name '
                'them, or pass those that are not classes to --ignore'
            )
        ordered = [number for number in names if number not in ignored]
    else:
        ignored = set() if two_valued else _ignored(present, reader, names, ignore)
        ordered = [number for number in present if number not in ignored]
        if wanted:
            ordered = _fit_count(ordered, ignored, reader, len(wanted), ignore)
            names = {number: name for number, (name, _) in zip(ordered, wanted, strict=True)}
            colours |= {number: c for number, (_, c) in zip(ordered, wanted, strict=True) if c is not None}
    made_up = 'class_{}' if reader.in_place else 'colour_{:06x}'
    name_of = {number: names.get(number) or made_up.format(number) for number in ordered}
    classes = list(dict.fromkeys(name_of.values()))
    if not 2 <= len(classes) <= IGNORE_INDEX:
        raise ValueError(
            f'the annotations have {len(classes)} classes ({_first(ordered, reader)}); 2 to {IGNORE_INDEX} '
            'are required; pass what is not a class to --ignore, or use --ignore none to ignore nothing'
        )
    colour_of = {name: colours.get(number) for number, name in reversed(name_of.items())}
    palette = [colour for name in classes if (colour := colour_of[name]) is not None]
    table = dict.fromkeys(present, IGNORE_INDEX)
    table |= {number: classes.index(name) for number, name in name_of.items()}
    proposal = Proposal(classes, palette if len(palette) == len(classes) else None, table)
    _decide_in_place(proposal, reader, present)
    _add_notes(proposal, pixels, reader, two_valued, named=bool(wanted))
    return proposal


def _fit_count(
    ordered: list[int], ignored: set[int], reader: Reader, count: int, ignore: Sequence[str] | None
) -> list[int]:
    """Return the integers to which ``count`` names apply: by value if the list is longer than the labels."""
    lowest, highest = min(ordered, default=0), max(ordered, default=0)
    gaps = highest - lowest >= len(ordered)
    if not reader.in_place or highest > count or (len(ordered) == count and not gaps):
        if len(ordered) == count:
            return ordered
    elif 0 in ordered or 0 in ignored or highest == count or ignore is not None:
        first = 0 if 0 in ordered else int(0 in ignored or highest == count)
        if highest < first + count:
            return list(range(first, first + count))
    else:
        raise ValueError(
            f'--classes has {count} names for the labels {_first(ordered, reader)}, which may count from 0 '
            'or from 1: pass --ignore 255 if the first name belongs to label 0, or --ignore 0 255 if to 1'
        )
    raise ValueError(
        f'--classes has {count} names for {len(ordered)} classes in the annotations: '
        f'{_first(ordered, reader)}; name all, or pass those that are not classes to --ignore'
    )


def _ignored(present: list[int], reader: Reader, names: dict, ignore: Sequence[str] | None) -> set[int]:
    if ignore is None:
        return {IGNORE_INDEX} & set(present) if reader.in_place else set()
    if list(ignore) == [NONE]:
        return set()
    known: dict[str, set[int]] = {}
    for number in {*present, *names, *((0, IGNORE_INDEX) if reader.in_place else ())}:
        for text in {names.get(number, reader.show(number)), reader.show(number)}:
            known.setdefault(text, set()).add(number)
    found: set[int] = set()
    for text in ignore:
        value = text
        if re.fullmatch(r'#[0-9a-fA-F]{6}', text):
            value = ','.join(str(part) for part in bytes.fromhex(text[1:]))
        value = re.sub(r'\s*,\s*', ',', value.strip())
        if value not in known:
            raise ValueError(
                f'--ignore {text}: the annotations contain {_first(present, reader)}{_hint(value, known)}'
            )
        found |= known[value]
    return found


def _hint(text: str, known: Iterable[str]) -> str:
    if ',' in text and all(part.strip() in known for part in text.split(',')):
        return '; separate several with spaces: ' + ' '.join(text.split(','))
    return near(text, known)


def _first(numbers: Sequence[int], reader: Reader) -> str:
    shown = '; '.join(reader.show(number) for number in numbers[:10])
    return shown + (f' and {len(numbers) - 10} more' if len(numbers) > 10 else '') or 'nothing'


def _decide_in_place(proposal: Proposal, reader: Reader, present: list[int]) -> None:
    if not reader.in_place:
        return
    classes = {number: label for number, label in proposal.table.items() if label != IGNORE_INDEX}
    ignored = set(present) - set(classes)
    if all(number == label for number, label in classes.items()) and ignored <= {IGNORE_INDEX}:
        proposal.in_place = True
    elif all(number == label + 1 for number, label in classes.items()) and ignored <= {0, IGNORE_INDEX}:
        proposal.in_place = proposal.reduce_zero_label = True


def _add_notes(
    proposal: Proposal, pixels: Mapping[int, int], reader: Reader, two_valued: bool, *, named: bool
) -> None:
    if two_valued:
        proposal.notes.append('masks contain only 0 and 255: 255 is used as a class, 0 as the background')
    elif not named and proposal.table.get(0, IGNORE_INDEX) != IGNORE_INDEX:
        shown, share = reader.show(0), pixels.get(0, 0) / sum(pixels.values())
        proposal.notes.append(
            f'{shown} ({share:.1%} of the pixels) is used as a class; if it means '
            f"'no label', add --ignore {shown}"
        )
    seen = {label for number, label in proposal.table.items() if number in pixels}
    unseen = [name for label, name in enumerate(proposal.classes) if label not in seen]
    if unseen:
        proposal.notes.append(f'classes without pixels: {", ".join(unseen)}')
