"""Which classes annotations hold: a proposal that a user reads before anything is written."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dpt.extras.own_data.readers import Reader
from dpt.extras.own_data.survey import Survey
from dpt.structures import IGNORE_INDEX

NONE = 'none'
FOREGROUND = {0: 'background', IGNORE_INDEX: 'foreground'}
"""Masks of 0 and 255 alone are black and white pictures of one class."""
_NUMBERS = re.compile(r'(?<![\w.])(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})(?![\w.])')

_PATH = re.compile(r'[^,]*(/[^,]*|\.(txt|csv|tsv|names|json))')


@dataclass
class Proposal:
    """Classes, and how numbers of the annotations become trained labels.

    Args:
        classes: Names, by trained label.
        palette: RGB colours of the classes; None where the annotations have none.
        table: Trained label of each number; 255 for none.
        in_place: Whether training can read the masks as they are.
        reduce_zero_label: Whether it then must take 0 for 'no label'.
        notes: What a user should look at, a line each.
    """

    classes: list[str]
    palette: list[tuple[int, int, int]] | None
    table: dict[int, int]
    in_place: bool = False
    reduce_zero_label: bool = False
    notes: list[str] = field(default_factory=list)


def read_classes(text: str) -> list[tuple[str, tuple[int, int, int] | None]]:
    """Read names, each with an RGB colour or without.

    Args:
        text: Names between commas, or the path of a text file: a line each, ``NAME``, ``R G B NAME`` or
            ``NAME: R,G,B``; lines that start with # are comments. A name with several colours is one class.

    Raises:
        FileNotFoundError: It is a path, and there is no file.
        ValueError: There is no name, one twice without colours, a colour twice, colours for some only, or a
            colour with a part above 255.
    """
    is_file = Path(text).is_file()
    if not is_file and _PATH.fullmatch(text):
        raise FileNotFoundError(f'--classes {text}: no such file; names have commas between them: a,b,c')
    lines = Path(text).read_text(encoding='utf-8').splitlines() if is_file else text.split(',')
    found = [_class(line) for line in lines if line.strip() and not line.lstrip().startswith('#')]
    names = [name for name, _ in found]
    if len(set(found)) != len(found) or '' in names or not names:
        raise ValueError(f'--classes {text}: names that differ were expected, and these are {names}')
    if len({colour is None for _, colour in found}) > 1:
        raise ValueError(f'--classes {text}: a colour for each name or for none was expected')
    colours = [colour for _, colour in found if colour is not None]
    beyond = [colour for colour in colours if max(colour) > 255]
    if beyond:
        raise ValueError(f'--classes {text}: {beyond[0]} is no colour, its parts go from 0 to 255')
    twice = [colour for colour, count in Counter(colours).items() if count > 1]
    if twice:
        raise ValueError(f'--classes {text}: {twice[0]} has several names; a colour is one class')
    return found


def _class(line: str) -> tuple[str, tuple[int, int, int] | None]:
    match = _NUMBERS.search(line)
    if match is None:
        return line.strip(), None
    red, green, blue = (int(part) for part in match.groups())
    return (line[: match.start()] + line[match.end() :]).strip(' \t:;,'), (red, green, blue)


def propose(
    survey: Survey,
    reader: Reader,
    wanted: Sequence[tuple[str, tuple[int, int, int] | None]] = (),
    ignore: Sequence[str] | None = None,
) -> Proposal:
    """Propose classes.

    Args:
        survey: What is there.
        reader: What read it.
        wanted: Names, and colours, that the user gave.
        ignore: Labels, colours (``R,G,B`` or ``#RRGGBB``) or names that are no class; ``none`` alone for no
            such. None: 255 in index masks, unless 0 and 255 are all there is.

    Raises:
        ValueError: The names do not fit what is there, something to ignore is not there, or there are fewer
            than 2 or more than 255 classes.
    """
    present = sorted(survey.pixels)
    two_valued = reader.in_place and present == [0, IGNORE_INDEX] and ignore is None
    names = dict(reader.names)
    if two_valued:
        names |= FOREGROUND
    ordered, names, colours = _order(present, reader, names, wanted, ignore, two_valued)
    name_of = {number: names.get(number) or _made_up(number, reader) for number in ordered}
    first = {name: number for number, name in reversed(name_of.items())}  # of the numbers of one name
    classes = list(dict.fromkeys(name_of.values()))
    if not 2 <= len(classes) <= IGNORE_INDEX:
        raise ValueError(
            f'the annotations give {len(classes)} classes ({_first(ordered, reader)}): 2 to {IGNORE_INDEX} '
            'are needed; --ignore says what is no class, --ignore none that everything is one'
        )
    table = dict.fromkeys(present, IGNORE_INDEX)
    table |= {number: classes.index(name) for number, name in name_of.items()}
    all_coloured = all(number in colours for number in ordered)
    proposal = Proposal(
        classes=classes,
        palette=[colours[first[name]] for name in classes] if all_coloured else None,
        table=table,
    )
    _decide_in_place(proposal, reader, present)
    _add_notes(proposal, survey, reader, two_valued)
    return proposal


def _order(present, reader, names, wanted, ignore, two_valued):  # noqa: ANN001, ANN202
    """Numbers of the classes in order, their names and their colours."""
    colours = {number: reader.colours.get(number) for number in present}
    colours = {number: colour for number, colour in colours.items() if colour is not None}
    given = {colour: name for name, colour in wanted if colour is not None}
    if given and reader.kind == 'colour masks':
        by_colour = {red << 16 | green << 8 | blue: name for (red, green, blue), name in given.items()}
        ignored = _ignored(present, reader, by_colour, ignore)
        left = [number for number in present if number not in by_colour and number not in ignored]
        if left:
            raise ValueError(
                f'--classes has no name for {len(left)} colours of the masks: {_first(left, reader)}; name '
                'them, or give those that are no class to --ignore'
            )
        ordered = [number for number in by_colour if number not in ignored]
        return ordered, by_colour, {number: reader.colours[number] for number in ordered}
    ignored = _ignored(present, reader, names, ignore) if not two_valued else set()
    ordered = [number for number in present if number not in ignored]
    if wanted:
        ordered = _named(ordered, ignored, reader, len(wanted))
        names = {number: name for number, (name, _) in zip(ordered, wanted, strict=True)}
        colours |= {number: c for number, (_, c) in zip(ordered, wanted, strict=True) if c is not None}
    return ordered, names, colours


def _named(ordered: list[int], ignored: set[int], reader: Reader, count: int) -> list[int]:
    """The numbers that so many names are for."""
    if len(ordered) == count:
        return ordered
    first = 1 if 0 in ignored else 0
    if reader.in_place and max(ordered) < first + count:  # some classes have no pixel
        return list(range(first, first + count))
    raise ValueError(
        f'--classes has {count} names for {len(ordered)} classes that are there: {_first(ordered, reader)}; '
        'name all, or give those that are no class to --ignore'
    )


def _ignored(present: list[int], reader: Reader, names: dict, ignore: Sequence[str] | None) -> set[int]:
    if ignore is None:
        return {IGNORE_INDEX} & set(present) if reader.in_place else set()
    if list(ignore) == [NONE]:
        return set()
    known: dict[str, set[int]] = {}
    for number in {*present, *names}:
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
                f'--ignore {text}: the annotations hold {_first(present, reader)}{_hint(value, known)}'
            )
        found |= known[value]
    return found


def _hint(text: str, known: Iterable[str]) -> str:
    if ',' in text and all(part.strip() in known for part in text.split(',')):
        return '; several have spaces between them: ' + ' '.join(text.split(','))
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(text.lower(), by_lower, n=1)
    return f'; did you mean {by_lower[near[0]]}?' if near else ''


def _made_up(number: int, reader: Reader) -> str:
    return f'class_{number}' if reader.in_place else f'colour_{number:06x}'


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


def _add_notes(proposal: Proposal, survey: Survey, reader: Reader, two_valued: bool) -> None:
    pixels = survey.pixels
    total = sum(pixels.values())
    if two_valued:
        proposal.notes.append('masks hold 0 and 255 alone: 255 is taken for a class, 0 for the background')
    suspects = [number for number in (0,) if proposal.table.get(number, IGNORE_INDEX) != IGNORE_INDEX]
    if suspects and not two_valued:
        shown = reader.show(0)
        proposal.notes.append(
            f'{shown} ({pixels[0] / total:.1%} of the pixels) is taken for a class; where it means '
            f"'no label', add --ignore {shown}"
        )
    seen = {label for number, label in proposal.table.items() if number in pixels}
    unseen = [name for label, name in enumerate(proposal.classes) if label not in seen]
    if unseen:
        proposal.notes.append(f'no pixel in any image: {", ".join(unseen)}')
