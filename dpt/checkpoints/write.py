"""Write weights with plain metadata, and other files, atomically."""

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
    """Open a temporary file and rename it to ``dst`` at the end, so that ``dst`` is complete or unchanged.

    The content is flushed to disk before the rename, so that a power failure does not leave an empty file.
    Creates the folder if needed.

    Raises:
        OSError: If the file cannot be written.
    """
    dst.parent.mkdir(parents=True, exist_ok=True)
    partial = dst.with_name(f'.{dst.name}.{uuid.uuid4().hex}{PARTIAL}')
    try:
        with partial.open('xb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, dst)
        if os.name == 'posix':  # other systems cannot open a folder
            folder = os.open(dst.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(content: bytes, dst: Path) -> None:
    """Write ``content`` to ``dst`` atomically, see :func:`whole_file`.

    Raises:
        OSError: If the file cannot be written.
    """
    with whole_file(dst) as file:
        file.write(content)


def save_weights(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], dst: Path) -> None:
    """Write weights and metadata to a ``.pth`` or ``.safetensors`` file, creating its folder if needed.

    Raises:
        OSError: If the file cannot be written.
    """
    write_whole(serialise(tensors, meta, dst.suffix), dst)


def serialise(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], suffix: str) -> bytes:
    """Return the content of a checkpoint file; equal arguments give equal bytes.

    Args:
        tensors: Tensors by key.
        meta: Plain values by name. A ``.safetensors`` file supports only strings, so other values are stored
            as JSON; :func:`read_meta` decodes them.
        suffix: ``'.pth'`` for ``{'state_dict': tensors, 'meta': meta}``, or ``'.safetensors'``.
    """
    # Copy, because a view would be saved with its complete storage.
    own = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    if suffix != '.safetensors':
        stream = io.BytesIO()
        torch.save({'state_dict': own, 'meta': dict(meta)}, stream)
        return stream.getvalue()
    strings = {key: value if isinstance(value, str) else json.dumps(value) for key, value in meta.items()}
    content = save(own, metadata=strings)
    # safetensors writes the metadata in random order.
    size = int.from_bytes(content[:8], 'little')
    header = json.loads(content[8 : 8 + size])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # keeps the tensors aligned
    return len(text).to_bytes(8, 'little') + text + content[8 + size :]


def check_target(dst: Path, src: str | Path = '') -> None:
    """Check, before any work is done, that ``dst`` is a valid output file.

    Raises:
        ValueError: If its name does not end in ``.pth`` or ``.safetensors``, or it is a folder or ``src``.
    """
    if dst.suffix not in ('.pth', '.safetensors'):
        raise ValueError(f'{dst}: the output file name must end in .pth or .safetensors')
    if dst.is_dir() or (dst.exists() and os.path.exists(src) and dst.samefile(src)):
        raise ValueError(f'{dst}: the output must be a file and must not be the input file')
