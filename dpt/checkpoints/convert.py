"""From a source's keys to ours: a state dict in, a state dict and an account of it out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from .rules import CONVERTER, Format, Rule, recognise

T = TypeVar('T')


@dataclass(frozen=True)
class Report:
    """What became of every key of a file.

    Args:
        source: name of the recognised format; empty where nothing was recognised.
        mapped: source key to our key.
        dropped: source key to the reason why it is knowingly left out.
        unmapped: source keys that no rule covers.
        kept: keys of the module that were, on request, left as they were.
    """

    source: str = ''
    mapped: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    unmapped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def table(self) -> str:
        """One row for each kind of key, the layers of the transformer together, then the totals."""
        rows: dict[tuple[str, str], int] = {}
        outcomes = {**self.mapped, **{key: f'dropped: {reason}' for key, reason in self.dropped.items()}}
        outcomes.update(dict.fromkeys(self.unmapped, 'NOT MAPPED'))
        for source, outcome in outcomes.items():
            row = (_any_layer(source), _any_layer(outcome))
            rows[row] = rows.get(row, 0) + 1
        width = max((len(source) for source, _ in rows), default=0)
        lines = [f'{count:4d} x {source:<{width}} -> {outcome}' for (source, outcome), count in rows.items()]
        return '\n'.join((*lines, self.totals()))

    def totals(self) -> str:
        """The counts in words."""
        total = len(self.mapped) + len(self.dropped) + len(self.unmapped)
        words = f'{total} keys: {len(self.mapped)} mapped, {len(self.dropped)} dropped'
        return words + (f', {len(self.unmapped)} not mapped' if self.unmapped else '')


def _any_layer(key: str) -> str:
    return re.sub(r'^((?:backbone\.)?(?:blocks|layers))\.\d+\.', r'\1.*.', key)


def convert(state_dict: Mapping[str, T], rules: Sequence[Rule]) -> tuple[dict[str, T], Report]:
    """Rename the keys of ``state_dict``; the first rule that matches a whole key decides.

    Values are handed on as they are. Keys that no rule covers are left out and reported as unmapped: whether
    that is an error is the caller's decision.

    Raises:
        ValueError: two source keys claim the same target.
    """
    converted: dict[str, T] = {}
    mapped: dict[str, str] = {}
    dropped: dict[str, str] = {}
    unmapped: list[str] = []
    origin: dict[str, str] = {}
    for key, value in state_dict.items():
        for rule in rules:
            match = re.fullmatch(rule.pattern, key)
            if match is None:
                continue
            if rule.replacement is None:
                dropped[key] = rule.reason
                break
            target = match.expand(rule.replacement)
            if target in origin:
                raise ValueError(
                    f'both {origin[target]} and {key} become {target}: the file holds one tensor too many'
                )
            origin[target] = key
            mapped[key] = target
            converted[target] = value
            break
        else:
            unmapped.append(key)
    return converted, Report(mapped=mapped, dropped=dropped, unmapped=tuple(unmapped))


def convert_known(state_dict: Mapping[str, T], formats: tuple[Format, ...]) -> tuple[dict[str, T], Report]:
    """Recognise the source among ``formats`` and convert every key of it.

    Raises:
        ValueError: not recognised, keys that no rule covers, or two keys for one target.
    """
    source = recognise(state_dict, formats)
    converted, report = convert(state_dict, source.rules)
    if report.unmapped:
        raise ValueError(
            f'{len(report.unmapped)} of {len(state_dict)} keys are in no table of {source.name} keys, and '
            f'without them the model would compute something else: {_first(report.unmapped)}. Expected is a '
            f'plain ViT (class token; no registers, distillation token or q/k norm), as {CONVERTER} takes it'
        )
    return converted, replace(report, source=source.name)


def _first(keys: Sequence[str], count: int = 20) -> str:
    return ', '.join(keys[:count]) + (f' and {len(keys) - count} more' if len(keys) > count else '')
