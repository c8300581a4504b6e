"""The way back: rules that undo rules."""

import re
from collections.abc import Sequence

from .format import Rule

_PIECE = re.compile(
    r'\((?:[^()]|\([^()]*\))*\)|(?:\\.|[^()\\])+'
)  # a group, with groups in it, or literal text


def inverse(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Derive the rules from our keys back to the source's; dropped keys have none.

    Only rules that rename can be undone, whose patterns are literal text and groups, each group once in the
    replacement.
    """
    return tuple(_undo(rule) for rule in rules if rule.replacement is not None)


def _undo(rule: Rule) -> Rule:
    assert rule.replacement is not None, rule
    assert not rule.transform, f'{rule.pattern}: a transformed tensor has no way back'
    pieces = _PIECE.findall(rule.pattern)
    groups = [piece for piece in pieces if piece.startswith('(')]
    ours = re.split(r'\\(\d)', rule.replacement)  # literal, number, literal, number, ..., literal
    order = [int(number) for number in ours[1::2]]
    assert sorted(order) == list(range(1, len(groups) + 1)), f'{rule.pattern}: not each group once'
    pattern = ''.join(groups[int(text) - 1] if i % 2 else re.escape(text) for i, text in enumerate(ours))
    numbers = iter(order.index(i + 1) + 1 for i in range(len(groups)))
    replacement = ''.join(
        rf'\{next(numbers)}' if piece.startswith('(') else _literal(piece) for piece in pieces
    )
    return Rule(pattern, replacement)


def _literal(pattern: str) -> str:
    text = re.sub(r'\\(\W)', r'\1', pattern)
    assert re.escape(text) == pattern, f'{pattern}: more than literal text'
    return text
