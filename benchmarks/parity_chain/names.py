"""The peer's parameter names in ours, by the table that loads its checkpoints."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar('T')


def renamed(theirs: Mapping[str, T]) -> dict[str, T]:
    """Rename the keys of a part of a whole model; runs on our side only.

    Raises:
        ValueError: If the table does not know a key.
    """
    from dpt.checkpoints.formats import MMSEG_DPT, convert

    ours, report = convert(theirs, MMSEG_DPT)
    if report.unmapped:
        raise ValueError(f'unknown to the table of names: {", ".join(report.unmapped[:5])}')
    return ours
