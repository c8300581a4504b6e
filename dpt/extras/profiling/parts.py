"""Modules whose cost is reported separately."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter

from torch import nn

PARTS = {
    'backbone': 'backbone',
    'reassemble': 'neck.reassemble_blocks',
    'convs': 'neck.convs',
    'fusion': 'neck.fusion_blocks',
    'project': 'decode_head.project',
    'classifier': 'decode_head.conv_seg',
    'auxiliary heads': 'auxiliary_heads',
}
"""Name of each part and where it is in the model; a part that a model lacks is left out."""


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the parts that the model has, in the order in which they run."""
    found = {}
    for name, path in PARTS.items():
        try:
            part = attrgetter(path)(model)
        except AttributeError:
            continue
        if not isinstance(part, nn.ModuleList) or len(part):
            found[name] = part
    return found


@contextmanager
def watch_parts(
    model: nn.Module, enter: Callable[[str], object], leave: Callable[[str], object]
) -> Iterator[None]:
    """Call ``enter`` and ``leave`` with the name of a part whenever its forward pass begins and ends."""
    handles = []
    for name, part in parts_of(model).items():
        # A list is never called itself, what is in it is.
        for module in part if isinstance(part, nn.ModuleList) else [part]:
            handles += [
                module.register_forward_pre_hook(lambda *_, name=name: _ignore(enter(name))),
                module.register_forward_hook(lambda *_, name=name: _ignore(leave(name))),
            ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ignore(_: object) -> None:
    """Return nothing: what a hook returns would replace the module's input or output."""
