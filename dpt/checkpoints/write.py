"""Writes files atomically: weights with plain metadata, and any other content."""

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

PARTIAL = '.partial'
"""Suffix of files that are being written."""


@contextmanager
def whole_file(dst: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``dst`` and rename it at the end: ``dst`` is complete or as it was before.

    The content is on the disk before the rename, so that a power cut does not leave an empty file either. The
    folder is created.

    Raises:
        OSError: the file cannot be written.
    """
    dst.parent.mkdir(parents=True, exist_ok=True)
    partial = dst.with_name(f'.{dst.name}.{uuid.uuid4().hex}{PARTIAL}')
    try:
        with partial.open('xb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, dst)
        if os.name == 'posix':  # elsewhere a folder cannot be opened
            folder = os.open(dst.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(content: bytes, dst: Path) -> None:
    """Write ``content`` to ``dst`` as :func:`whole_file` does.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_file(dst) as file:
        file.write(content)


def save_weights(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], dst: Path) -> None:
    """Write weights and metadata to ``dst``, a ``.pth`` or ``.safetensors`` file; its folder is created.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(serialise(tensors, meta, dst.suffix), dst)


def serialise(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], suffix: str) -> bytes:
    """The content of a file of weights, the same bytes for the same tensors and metadata.

    Args:
        tensors: by key.
        meta: plain values by name. A ``.safetensors`` file holds strings only, so other values are written as
            JSON there; :func:`read_meta` reads them back.
        suffix: ``'.pth'`` for ``{'state_dict': tensors, 'meta': meta}``, or ``'.safetensors'``.
    """
    # A view would be saved with all of its storage, so every tensor is copied.
    own = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    if suffix != '.safetensors':
        stream = io.BytesIO()
        torch.save({'state_dict': own, 'meta': dict(meta)}, stream)
        return stream.getvalue()
    strings = {key: value if isinstance(value, str) else json.dumps(value) for key, value in meta.items()}
    content = save(own, metadata=strings)
    # The library writes the metadata in another order each time.
    size = int.from_bytes(content[:8], 'little')
    header = json.loads(content[8 : 8 + size])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # the tensors behind it stay aligned
    return len(text).to_bytes(8, 'little') + text + content[8 + size :]


def check_target(dst: Path, src: str | Path = '') -> None:
    """Check, before any work is done, that a result can be written to ``dst``.

    Raises:
        ValueError: its name does not end in ``.pth`` or ``.safetensors``, it is a folder, or it is the file
            ``src`` that is read.
    """
    if dst.suffix not in ('.pth', '.safetensors'):
        raise ValueError(f'{dst}: the name of the result must end in .pth or .safetensors')
    if dst.is_dir() or (dst.exists() and os.path.exists(src) and dst.samefile(src)):
        raise ValueError(f'{dst}: the result must be a file other than the source, not a folder')
