"""Memory of tensors by torch's own accounting: the same on every run, and no matter what else runs."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

MIB = 1 << 20


@dataclass(frozen=True)
class Allocations:
    """What work on a CPU took from torch's allocator.

    Attributes:
        peak: Largest number of bytes held at a time, over what was held before.
        left: Bytes held afterwards, over what was held before.
        largest: Bytes of the largest single allocation.
        operators: How often each operator ran, by name.
    """

    peak: int
    left: int
    largest: int
    operators: dict[str, int]


def allocations(work: Callable[[], object]) -> Allocations:
    """Run ``work`` and return what it allocated on the CPU, scratch memory inside operators included.

    oneDNN's own scratch memory is not torch's, and not counted.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    live = peak = largest = 0
    operators: dict[str, int] = {}
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == '[memory]':
            live += event.nbytes()  # negative where memory is given back
            peak, largest = max(peak, live), max(largest, event.nbytes())
        else:
            operators[event.name()] = operators.get(event.name(), 0) + 1
    return Allocations(peak, live, largest, operators)


class TensorMemory(TorchDispatchMode):
    """Count the bytes of the tensors that were made within the context and are alive, and their peak.

    What autograd keeps for the backward pass is counted, as are intermediate results of operators that are
    made of others. Scratch memory inside a single kernel is not, nor is what an allocator holds in reserve.

    Attributes:
        live: Bytes alive now.
        peak: Largest number of bytes alive at a time.
        largest: Bytes of the largest single tensor.

    Example:
        >>> with TensorMemory() as memory:
        ...     model(images).sum().backward()
        >>> memory.peak / 2**20  # MiB, gradients included, parameters and images not
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.largest = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:  # the signature is torch's
        kwargs = kwargs or {}
        before = _storages((args, kwargs))
        result = func(*args, **kwargs)
        for key, storage in _storages(result).items():
            # A view, or the target of an operation in place, has the storage of an argument.
            if key not in before and key not in self._known:
                self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        self.largest = max(self.largest, size)
        weakref.finalize(storage, self._release, key, size).atexit = False

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _storages(tree: Any) -> dict[int, torch.UntypedStorage]:
    """Return the storages of the tensors in nested containers, by identity."""
    found = (x.untyped_storage() for x in tree_iter(tree) if isinstance(x, torch.Tensor))
    return {id(storage): storage for storage in found}
