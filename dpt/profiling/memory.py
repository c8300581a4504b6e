"""Memory of tensors, by torch's own accounting of their storages: the same on every run and machine."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

MIB = 1 << 20


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
