"""Read text files of users, and compare names as people read them."""

import codecs
import unicodedata

_MARKS = {codecs.BOM_UTF16_LE: 'utf-16', codecs.BOM_UTF16_BE: 'utf-16'}


def text_lines(content: bytes, name: str) -> list[str]:
    """Return the lines of a text file without surrounding blanks, omitting empty lines.

    Args:
        content: UTF-8 with or without a byte order mark, or UTF-16 with one, as Windows writes it.
        name: What the file is, and its path, for the error message.

    Raises:
        ValueError: If the content is not text.
    """
    try:
        text = content.decode(_MARKS.get(content[:2], 'utf-8-sig'))
    except UnicodeDecodeError as error:
        raise ValueError(f'{name} is not text: {error}; save it as UTF-8') from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def written_alike(name: str) -> str:
    """Return a form that is equal for names that look alike: Unicode form, case, blanks and slashes.

    macOS stores an umlaut as a letter and a mark (NFD), other systems as one character (NFC).
    """
    return unicodedata.normalize('NFKC', name).casefold().replace('\\', '/').strip()


def explain_absent(name: str, present: list[str] | set[str]) -> str:
    """Return how an absent name differs from a present one that looks alike, or an empty string."""
    wanted = written_alike(name)
    other = next((one for one in present if written_alike(one) == wanted), None)
    return f'; {name!a} looks like the file {other!a}, but is written differently' if other else ''
