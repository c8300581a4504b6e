"""Read a dict of a foreign config so that no key is ignored by accident."""

from collections.abc import Mapping
from typing import Any

_UNSET = object()


class Keys:
    """One dict of a config; :meth:`close` raises an error if a key was not read.

    Args:
        config: The dict.
        path: Dotted key of the dict, for messages.
        lines: List to which a line is appended for each key that is dropped.
    """

    def __init__(self, config: Mapping, path: str, lines: list[str]) -> None:
        if not isinstance(config, Mapping):
            raise ValueError(f'{path}={config!r}: expected a dict')
        self.left = dict(config)
        self.path = path
        self.lines = lines

    def take(self, key: str, default: Any = _UNSET) -> Any:
        """Remove a key and return its value, or ``default`` if the key is missing."""
        if key not in self.left and default is _UNSET:
            raise ValueError(f'{self.path}.{key} is missing')
        return plain(self.left.pop(key, default))

    def expect(self, key: str, *values: Any, default: Any = _UNSET, why: str = '') -> Any:
        """Take a key whose value must be one of ``values``; the first is MMSegmentation's default."""
        value = self.take(key, values[0] if default is _UNSET else default)
        if not any(value == plain(known) and type(value) is type(plain(known)) for known in values):
            wanted = ' or '.join(repr(known) for known in values)
            raise ValueError(f'{self.path}.{key}={value!r} cannot be translated: expected {wanted}{why}')
        return value

    def without_effect(self, *keys: str) -> None:
        """Drop keys that have no effect in MMSegmentation either."""
        for key in keys:
            if key in self.left:
                del self.left[key]
                self.lines.append(f'{self.path}.{key}: dropped, it has no effect on a DPT')

    def close(self) -> None:
        """Raise a ``ValueError`` if a key was not read."""
        for key, value in self.left.items():
            raise ValueError(
                f'{self.path}.{key}={plain(value)!r}: unknown argument, or it cannot be translated'
            )


def plain(value: Any) -> Any:
    """Convert mappings to dicts and tuples to lists, so that values can be compared."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
