"""From a source's keys to ours: a state dict in, a state dict and an account of it out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from .rules import CONVERTER, Format, Rule, recognise
from .transforms import transform
from .vit_refusals import why_not

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
        unwrapped: the container and the prefixes of every key that were taken off; source keys lack them.
    """

    source: str = ''
    mapped: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    unmapped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    unwrapped: tuple[str, ...] = ()

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
    number = r'\b((?:decoder_)?(?:blocks|layers?)\.|encoder_layer_|encoderblock_)\d+'
    return re.sub(number, r'\1*', key, count=1)


def convert(state_dict: Mapping[str, T], rules: Sequence[Rule]) -> tuple[dict[str, T], Report]:
    """Rename the keys of ``state_dict``; the first rule that matches a whole key decides.

    Values are handed on as they are, unless their rule transforms them or stacks several to one. Keys that
    no rule covers are left out and reported as unmapped: whether that is an error is the caller's decision.

    Raises:
        ValueError: two source keys claim the same target, one of several that make a target is missing, or a
            tensor to be transformed has another number of dimensions than its source gives it.
    """
    claims: dict[str, _Claim] = {}
    mapped: dict[str, str] = {}
    dropped: dict[str, str] = {}
    unmapped: list[str] = []
    for key in state_dict:
        found = _first_match(key, rules)
        if found is None:
            unmapped.append(key)
            continue
        rule, match = found
        if rule.replacement is None:
            dropped[key] = rule.reason
        else:
            target = match.expand(rule.replacement)
            claims.setdefault(target, _Claim(target, rule)).add(key, match['part'] if rule.parts else '')
            mapped[key] = target
    converted = {target: claim.value(state_dict) for target, claim in claims.items()}
    return converted, Report(mapped=mapped, dropped=dropped, unmapped=tuple(unmapped))


def _first_match(key: str, rules: Sequence[Rule]) -> tuple[Rule, re.Match[str]] | None:
    for rule in rules:
        match = re.fullmatch(rule.pattern, key)
        if match is not None:
            return rule, match
    return None


class _Claim:
    """The source keys of one target, by part; a target of one source has the part ``''``."""

    def __init__(self, target: str, rule: Rule) -> None:
        self.target = target
        self.rule = rule
        self.keys: dict[str, str] = {}

    def add(self, key: str, part: str) -> None:
        if part in self.keys or (self.keys and part not in self.rule.parts):
            other = self.keys.get(part) or next(iter(self.keys.values()))
            raise ValueError(
                f'both {other} and {key} become {self.target}: the file holds one tensor too many'
            )
        self.keys[part] = key

    def value(self, state_dict: Mapping[str, Any]) -> Any:
        """The target's value, made of those of its source keys."""
        parts = self.rule.parts or ('',)
        lacking = [part for part in parts if part not in self.keys]
        if lacking:
            present = ', '.join(self.keys.values())
            raise ValueError(
                f'{self.target} is made of {", ".join(parts)}, and the file lacks {", ".join(lacking)} '
                f'beside {present}'
            )
        values = [self._transformed(self.keys[part], state_dict) for part in parts]
        return torch.cat(values) if self.rule.parts else values[0]

    def _transformed(self, key: str, state_dict: Mapping[str, Any]) -> Any:
        value = state_dict[key]
        return transform(self.rule.transform, value, key) if self.rule.transform else value


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
            f'without them the model would compute something else: {_first(report.unmapped)}. '
            f'{_reason(report.unmapped)}Expected is a plain ViT (class token; no registers, distillation '
            f'token or q/k norm), as {CONVERTER} takes it'
        )
    return converted, replace(report, source=source.name)


def _reason(unmapped: Sequence[str]) -> str:
    reason = why_not(unmapped)
    return f'{reason}. ' if reason else ''


def _first(keys: Sequence[str], count: int = 20) -> str:
    return ', '.join(keys[:count]) + (f' and {len(keys) - count} more' if len(keys) > count else '')
