"""Values of ``--cfg-options`` keep their characters and take the type of the value that they replace."""

import ast
import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from dpt.config.parts import INNER, ROOTS, accepted_types, arguments

BRACKETS = {'(': ')', '[': ']'}
ESCAPED = ('"', "'")


class OptionText(str):
    """The text of an option, whose type is decided when the config is known."""


def typed_options(options: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Convert the texts among the values of options; other values stay unchanged.

    Raises:
        ValueError: If a text cannot replace a boolean value.
    """
    found = {}
    for key, value in options.items():
        if isinstance(value, OptionText):
            try:
                value = _typed(str(value), _replaced(config, key))
            except ValueError as error:
                raise ValueError(f'--cfg-options {key}={value}: {error}') from None
        found[key] = value
    return found


def _replaced(config: Config, key: str) -> Any:
    """Return the value of a dotted key or, if there is none, '' where only a text is accepted."""
    value: Any = config
    parent, registry = None, None
    *_, last = names = key.split('.')
    for name in names:
        parent, registry = value, INNER.get(name) or registry or ROOTS.get(name)
        if isinstance(value, (list, tuple)) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            value = value.get(name) if isinstance(value, (Config, Mapping)) else None
    if value is not None:
        return value
    kind = parent.get('type') if isinstance(parent, Mapping) and not isinstance(parent, Config) else None
    if isinstance(kind, str) and registry is not None:
        with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'dpt'):
            try:
                kind = registry.get(kind)
            except (ImportError, AttributeError):
                return None
    target = Runner if len(names) == 1 else kind
    try:
        parameter = arguments(target)[0].get(last) if callable(target) else None
    except (TypeError, ValueError):  # a C function has no signature
        return None
    known = parameter is not None and parameter.annotation is not inspect.Parameter.empty
    accepted = set(accepted_types(parameter.annotation) or ()) if parameter and known else set()
    return '' if str in accepted and accepted <= {str, type(None)} else None


def _typed(text: str, old: Any) -> Any:
    """Return the value of a text that replaces ``old``; with ``None``, the text determines its type."""
    bare = text.strip()
    if bare == 'None':
        return None
    if bare[:1] in ESCAPED and len(bare) > 1 and bare.endswith(bare[0]):
        return bare[1:-1]
    if bare[:1] in BRACKETS and bare.endswith(BRACKETS[bare[0]]):
        return _sequence(bare[1:-1], tuple if bare[0] == '(' else list, old)
    if isinstance(old, (list, tuple)) and ',' in bare:
        return _sequence(bare, type(old), old)
    if isinstance(old, str):
        return text
    value = _guessed(text, _example(old) if isinstance(old, (list, tuple)) else None)
    if isinstance(old, bool):
        if isinstance(value, str):
            raise ValueError('expected True or False')
        return bool(value) if value in (0, 1) else value
    if isinstance(old, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(old, float) and type(value) is int:
        return float(value)
    return value


def _guessed(text: str, example: Any) -> Any:
    """Return a number, boolean, dict or list of numbers if the text is one; otherwise the text itself."""
    if isinstance(example, str):
        return text
    bare = text.strip()
    if bare.lower() in ('true', 'false'):
        return bare.lower() == 'true'
    for number in (int, float):
        try:
            return number(bare) if '_' not in bare else text
        except ValueError:
            continue
    if bare.startswith('{'):
        try:
            return ast.literal_eval(bare)
        except (ValueError, SyntaxError):
            return text
    parts = [_guessed(part, None) for part in bare.split(',')] if ',' in bare else []
    return parts if parts and not any(isinstance(part, (str, list)) for part in parts) else text


def _sequence(inner: str, kind: type, old: Any) -> Any:
    if isinstance(old, (list, tuple)):
        kind = tuple if isinstance(old, tuple) else list
    example = old if isinstance(old, str) else _example(old)
    return kind(_typed(item.strip(), example) for item in _items(inner))


def _example(old: Any) -> Any:
    """Return an element that stands for all elements of a list, or None if they differ in type."""
    if not isinstance(old, (list, tuple)) or len({type(one) for one in old}) != 1:
        return None
    return None if isinstance(old[0], Mapping) else old[0]


def _items(inner: str) -> list[str]:
    """Split at the commas that are inside neither brackets nor quotes."""
    items, depth, quote, start = [], 0, '', 0
    for place, char in enumerate(inner):
        if quote:
            quote = '' if char == quote else quote
        elif char in ESCAPED and not inner[start:place].strip():  # an apostrophe inside a word is not a quote
            quote = char
        elif char in '([{':
            depth += 1
        elif char in ')]}':
            depth -= 1
        elif char == ',' and depth == 0:
            items.append(inner[start:place])
            start = place + 1
    return [*items, *([inner[start:]] if inner[start:].strip() else [])]
