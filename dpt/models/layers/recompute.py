"""Backward passes that keep less: what is cheap to compute is computed again instead of kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_keep = ContextVar('keep', default=False)


@contextmanager
def keep_intermediates() -> Iterator[None]:
    """Turn :func:`recomputed` off, for parts that ``torch.utils.checkpoint`` recomputes as a whole."""
    token = _keep.set(True)
    try:
        yield
    finally:
        _keep.reset(token)


def checkpointed(part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return ``part(x)``, keeping ``x`` alone: ``torch.utils.checkpoint``, within which everything is kept.

    Not nested, and not in compiled code, where the compiler decides.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or _keep.get():
        return part(x)
    contexts = (keep_intermediates(), keep_intermediates())  # forward, recomputation
    return checkpoint(part, x, use_reentrant=False, context_fn=lambda: contexts)


def recomputed(
    cheap: Callable[[Tensor], Tensor],
    consumer: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    again: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return ``consumer(cheap(x))`` without keeping ``cheap(x)`` for the backward pass.

    The backward pass of ``consumer`` computes ``cheap(x)`` again, bit by bit the same; only ``x`` is kept. So
    ``cheap`` must be deterministic, have no side effects, and not keep its result itself, as torch's ReLU
    does.
    Compiled code is left alone: the compiler makes the same choice by itself.

    Args:
        cheap: From ``x`` to a new tensor: a norm, an activation, an upsampling.
        consumer: Anything that is differentiable.
        x: Any tensor.
        again: What the backward pass computes instead of ``cheap``, with the same result, where ``cheap`` has
            side effects.
    """
    y = cheap(x)
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or _keep.get():
        return consumer(y)
    source, dtype, storage = x.detach(), y.dtype, y.untyped_storage()._cdata

    def pack(tensor: Tensor) -> Tensor | tuple:
        if tensor.untyped_storage()._cdata != storage:
            return tensor
        return tensor.size(), tensor.stride(), tensor.storage_offset()

    def unpack(packed: Tensor | tuple) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch.no_grad():
            return (again or cheap)(source).to(dtype).as_strided(*packed)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):  # type: ignore[attr-defined]
        return consumer(y)
