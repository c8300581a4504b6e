"""A dict of a foreign config, every key of which must be accounted for."""

from collections.abc import Mapping
from typing import Any

_UNSET = object()


class Keys:
    """The keys of one dict of the config, each of which must be accounted for.

    Args:
        config: The dict.
        path: Its own key, for messages.
        lines: Where what was left out is noted.
    """

    def __init__(self, config: Mapping, path: str, lines: list[str]) -> None:
        if not isinstance(config, Mapping):
            raise ValueError(f'{path}={config!r}: a dict was expected')
        self.left = dict(config)
        self.path = path
        self.lines = lines

    def take(self, key: str, default: Any = _UNSET) -> Any:
        """Return the value of a key, or MMSegmentation's default."""
        if key not in self.left and default is _UNSET:
            raise ValueError(f'{self.path}.{key} is missing')
        return plain(self.left.pop(key, default))

    def expect(self, key: str, *values: Any, default: Any = _UNSET, why: str = '') -> Any:
        """Return the value if it is one of ``values``, of which the first is MMSegmentation's default."""
        value = self.take(key, values[0] if default is _UNSET else default)
        if not any(value == plain(known) and type(value) is type(plain(known)) for known in values):
            wanted = ' or '.join(repr(known) for known in values)
            raise ValueError(f'{self.path}.{key}={value!r} cannot be translated: {wanted} was expected{why}')
        return value

    def without_effect(self, *keys: str) -> None:
        """Leave out keys that change nothing in MMSegmentation either."""
        for key in keys:
            if key in self.left:
                del self.left[key]
                self.lines.append(f'{self.path}.{key}: left out, it has no effect on a DPT')

    def close(self) -> None:
        """Refuse what nobody asked for."""
        for key, value in self.left.items():
            raise ValueError(
                f'{self.path}.{key}={plain(value)!r}: no such argument, or it cannot be translated'
            )


def plain(value: Any) -> Any:
    """Return a value with plain dicts, and lists for tuples, so that it can be compared."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
