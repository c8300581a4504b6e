"""Write weights with plain metadata."""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from dpt.files import write_whole


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
