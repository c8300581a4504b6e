"""What a key table is made of. Nothing here touches a tensor."""

from collections.abc import Collection
from dataclasses import dataclass, replace

CONVERTER = 'tools/model_converters/vit2mmseg.py'


@dataclass(frozen=True)
class Rule:
    """One line of a key table.

    Args:
        pattern: regular expression that must match the whole source key.
        replacement: our key, with groups as ``\\1``; None where the key is knowingly dropped.
        reason: why a key is dropped; empty for keys that are kept.
        transform: name, in :data:`dpt.checkpoints.transforms.TRANSFORMS`, of what is done to the tensor.
        parts: where several source keys make one tensor of ours: the values of the pattern's group ``part``,
            in the order in which the tensors, once transformed, are stacked along the first axis.
    """

    pattern: str
    replacement: str | None
    reason: str = ''
    transform: str = ''
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert (self.replacement is None) == bool(self.reason), (
            f'{self.pattern}: a dropped key needs a reason'
        )
        assert bool(self.parts) == ('(?P<part>' in self.pattern), f'{self.pattern}: parts need their group'

    def under(self, prefix: str) -> 'Rule':
        """The rule for keys that have ``prefix``, a regular expression without groups, before them."""
        return replace(self, pattern=f'{prefix}(?:{self.pattern})')


@dataclass(frozen=True)
class Format:
    """A source of checkpoints.

    Args:
        name: what messages call it.
        signature: keys that every such file has, the most telling one last.
        rules: its key table, in order.
        norm_eps: epsilon of its layer norms; None where that is not the source's to say.
        mean_std: (mean, std) of its pixels in units of 0 to 255; None where models of the source differ.
    """

    name: str
    signature: tuple[str, ...]
    rules: tuple[Rule, ...]
    norm_eps: float | None = None
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def fits(self, keys: Collection[str]) -> bool:
        """Whether ``keys`` hold the whole signature."""
        return all(key in keys for key in self.signature)
