"""Key tables that map the parameter names of a checkpoint format, and the conversion with them."""

import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar('T')

_PLACEHOLDER = re.compile(r'(\*\*|[*#]|\{.*?\})')
_REGEX = {'#': r'(\d+)', '*': '(weight|bias|running_mean|running_var|num_batches_tracked)', '**': '(.+)'}


class Changed(NamedTuple):
    """A target key whose tensor is transformed as well as renamed.

    Args:
        key: Target key.
        ndim: Number of dimensions of the source tensor.
        function: Converts the source tensor to the target tensor.
    """

    key: str
    ndim: int
    function: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Format:
    """A checkpoint format and its key table.

    The table maps patterns of source keys to target keys. In a pattern, ``#`` matches a number, ``*`` the
    name of a parameter or statistic such as ``weight``, and ``**`` any non-empty string. The placeholders of
    the target take the matched values in order, so swapping keys and values inverts a table that only
    renames. The tensors that match ``{a,b,c}`` are concatenated along the first axis in this order. The first
    matching pattern applies.

    Args:
        name: Name in messages.
        signature: Keys that every file of this format has, the most characteristic one last.
        keys: Target key by source pattern.
        dropped: Reason for dropping a key, by source pattern; takes precedence over ``keys``.
        mean_std: Mean and std of the pixel values (0 to 255); None if they differ between models.
        norm_eps: Epsilon of the layer norms.
        finish: Changes the converted tensors together, where one source tensor affects several targets.
    """

    name: str
    signature: tuple[str, ...]
    keys: Mapping[str, str | Changed]
    dropped: Mapping[str, str] = field(default_factory=dict)
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    norm_eps: float = 1e-6
    finish: Callable[[Mapping[str, Any]], dict[str, Any]] = dict

    def fits(self, keys: Collection[str]) -> bool:
        """Return whether ``keys`` contain the whole signature."""
        return all(key in keys for key in self.signature)


@dataclass(frozen=True)
class Report:
    """Result of the conversion of each key of a file.

    Args:
        source: Name of the detected format.
        mapped: Target key by source key.
        dropped: Reason for dropping the key, by source key.
        unmapped: Source keys that are not in the table.
        kept: Keys of the module that were not loaded, on request.
        unwrapped: Container and prefixes that were removed from the source keys.
    """

    source: str = ''
    mapped: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    unmapped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    unwrapped: tuple[str, ...] = ()

    def table(self) -> str:
        """Return a table of the mapped and dropped keys, merging all layers, and the totals."""
        outcomes = {**self.mapped, **{key: f'dropped: {reason}' for key, reason in self.dropped.items()}}
        rows: dict[tuple[str, str], int] = {}
        for source, outcome in outcomes.items():
            row = (_any_layer(source), _any_layer(outcome))
            rows[row] = rows.get(row, 0) + 1
        width = max((len(source) for source, _ in rows), default=0)
        lines = [f'{count:4d} x {source:<{width}} -> {outcome}' for (source, outcome), count in rows.items()]
        totals = f'{len(outcomes)} keys: {len(self.mapped)} mapped, {len(self.dropped)} dropped'
        return '\n'.join((*lines, totals))


def _any_layer(key: str) -> str:
    number = r'\b((?:decoder_)?(?:blocks|layers?)\.|encoder_layer_|encoderblock_)\d+'
    return re.sub(number, r'\1*', key, count=1)


def convert(state_dict: Mapping[str, T], source: Format) -> tuple[dict[str, T], Report]:
    """Rename the keys of ``state_dict``.

    Keys that are not in the table are omitted and reported as unmapped, which the caller may treat as an
    error.

    Raises:
        ValueError: If two source keys have the same target, a target lacks one of its source tensors, or a
            tensor to transform has an unexpected number of dimensions.
    """
    claims: dict[str, tuple[str, dict[str, str]]] = {}  # target: (pattern, {part: source key})
    mapped: dict[str, str] = {}
    dropped: dict[str, str] = {}
    unmapped: list[str] = []
    for key in state_dict:
        if found := _match(source.dropped, key):
            dropped[key] = source.dropped[found[0]]
        elif found := _match(source.keys, key):
            pattern, values, part = found
            entry = source.keys[pattern]
            pieces = _PLACEHOLDER.split(entry.key if isinstance(entry, Changed) else entry)
            pieces[1::2] = values
            target = ''.join(pieces)
            claimed_by, claim = claims.setdefault(target, (pattern, {}))
            if claimed_by != pattern or part in claim:
                other = claim.get(part) or next(iter(claim.values()))
                raise ValueError(f'both {other} and {key} become {target}: the file has one tensor too many')
            claim[part] = key
            mapped[key] = target
        else:
            unmapped.append(key)
    converted: dict[str, Any] = {}
    for target, (pattern, keys) in claims.items():
        parts = _parts(pattern)
        if lacking := [part for part in parts if part not in keys]:
            raise ValueError(
                f'{target} is made of {", ".join(parts)}, but the file lacks {", ".join(lacking)}; '
                f'it has {", ".join(keys.values())}'
            )
        made: list[Any] = [
            _changed(state_dict[keys[part]], keys[part], source.keys[pattern]) for part in parts
        ]
        converted[target] = torch.cat(made) if len(made) > 1 else made[0]
    return source.finish(converted), Report(source.name, mapped, dropped, tuple(unmapped))


def _match(table: Mapping[str, Any], key: str) -> tuple[str, list[str], str] | None:
    """Return the first matching pattern, the values of its placeholders, and the match of ``{a,b,c}``."""
    for pattern in table:
        match = _compiled(pattern).fullmatch(key)
        if match is not None:
            values, part = list(match.groups()), match.groupdict().get('part', '')
            if part:
                values.pop(match.re.groupindex['part'] - 1)
            return pattern, values, part
    return None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    pieces = _PLACEHOLDER.split(pattern)
    pieces[::2] = map(re.escape, pieces[::2])
    pieces[1::2] = (_REGEX.get(piece) or f'(?P<part>{"|".join(_parts(piece))})' for piece in pieces[1::2])
    return re.compile(''.join(pieces))


def _parts(pattern: str) -> list[str]:
    match = re.search(r'\{(.*?)\}', pattern)
    return match[1].split(',') if match else ['']


def _changed(tensor: Any, key: str, entry: str | Changed) -> Any:
    if isinstance(entry, str):
        return tensor
    if tensor.ndim != entry.ndim:
        raise ValueError(
            f'{key} has shape {"x".join(map(str, tensor.shape))}, expected {entry.ndim} dimensions'
        )
    return entry.function(tensor)


def first(keys: Collection[str], count: int = 20) -> str:
    """Return the first ``count`` keys as text, and how many more there are."""
    rest = len(keys) - count
    return ', '.join([*keys][:count]) + (f' and {rest} more' if rest > 0 else '')
