"""Weights to files: tensors and plain metadata, complete or not there at all."""

import io
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor

SAVED_SUFFIXES = ('.pth', '.safetensors')
PARTIAL = '.partial'
"""Ends the names of files that are being written."""


def check_target(dst: Path, src: str | Path = '') -> None:
    """Make sure, before any work is done, that a result can be written to ``dst``.

    Raises:
        ValueError: its name ends in something else than ``.pth`` or ``.safetensors``, it is a folder, or it
            is the file ``src`` that is read.
    """
    if dst.suffix not in SAVED_SUFFIXES:
        raise ValueError(f'{dst}: the name of the result must end in .pth or .safetensors')
    if dst.is_dir() or (dst.exists() and os.path.exists(src) and dst.samefile(src)):
        raise ValueError(f'{dst}: the result needs a file of its own, other than the source')


def serialise(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], suffix: str) -> bytes:
    """The content of a file of weights, the same bytes for the same tensors and metadata.

    Args:
        tensors: by key.
        meta: plain values by name. In a ``.safetensors`` file, whose metadata are strings, all but strings
            are written as JSON; :func:`read_meta` reads them back.
        suffix: ``'.pth'`` for ``{'state_dict': tensors, 'meta': meta}``, or ``'.safetensors'``.
    """
    # A copy of its own for each tensor: a view would be saved with all of its storage.
    own = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    if suffix == '.safetensors':
        strings = {key: value if isinstance(value, str) else json.dumps(value) for key, value in meta.items()}
        return _in_order(save(own, metadata=strings))
    stream = io.BytesIO()
    torch.save({'state_dict': own, 'meta': dict(meta)}, stream)
    return stream.getvalue()


def _in_order(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file, which the library writes in another order each time."""
    size = int.from_bytes(content[:8], 'little')
    header = json.loads(content[8 : 8 + size])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # the tensors behind it stay aligned
    return len(text).to_bytes(8, 'little') + text + content[8 + size :]


@contextmanager
def whole_file(dst: Path) -> Iterator[BinaryIO]:
    """Write beside ``dst`` first, then rename: whenever this ends, ``dst`` is complete or as it was.

    The content is on the disk before the name is, so that a power cut leaves no empty file either. The folder
    is made.

    Raises:
        OSError: it cannot be written.
    """
    dst.parent.mkdir(parents=True, exist_ok=True)
    partial = dst.with_name(f'.{dst.name}.{uuid.uuid4().hex}{PARTIAL}')
    try:
        with partial.open('xb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, dst)
        _sync_folder(dst.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name != 'posix':  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(content: bytes, dst: Path) -> None:
    """Write a file as :func:`whole_file` does.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(dst) as file:
        file.write(content)


def save_weights(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], dst: Path) -> None:
    """Write weights and metadata to ``dst``, in the kind of file that its name ends in; its folder is made.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(serialise(tensors, meta, dst.suffix), dst)
