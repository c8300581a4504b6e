"""Files of safetensors, alone or as the shards that an index names."""

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

INDEX = '.safetensors.index.json'
"""Ends the name of the JSON file that says which shard holds which tensor."""


def read_safetensors(file: Path) -> dict[str, Any]:
    """Read a file: ``{'state_dict': tensors, 'meta': metadata strings}``.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with safe_open(file, framework='pt', device='cpu') as content:
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 (not a dict)
            return {'state_dict': tensors, 'meta': dict(content.metadata() or {})}
    except (SafetensorError, OSError, MemoryError, ValueError, KeyError) as error:
        raise unreadable(file, str(error)) from None


def unreadable(file: Path, cause: str) -> ValueError:
    """The error for a file that is damaged or none of its kind."""
    size = file.stat().st_size
    return ValueError(
        f'{file}: cannot be read ({cause}; {size:,} bytes). It may be truncated or an error page saved under '
        f'this name: delete it and fetch it again'
    )


def index_in(folder: Path) -> Path:
    """The index of the sharded checkpoint that ``folder`` holds.

    Raises:
        ValueError: there is none, or there are several.
    """
    found = sorted(folder.glob(f'*{INDEX}'))
    if len(found) == 1:
        return found[0]
    several = ', '.join(file.name for file in found)
    raise ValueError(
        f'{folder}: not a file, expected a checkpoint or a folder with one *{INDEX} '
        f'({f"here are {several}" if found else "here is none"}): give the path of a file'
    )


def shards_of(index: Path) -> list[Path]:
    """The shards that an index names, in the order of their names.

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: the index cannot be read, or names other files than ``.safetensors`` beside it.
    """
    return [index.with_name(name) for name in sorted(set(_weight_map(index).values()))]


def read_shards(index: Path) -> dict[str, Any]:
    """Read all shards that an index names, as :func:`read_safetensors` does one file.

    Raises:
        FileNotFoundError, ValueError: as :func:`shards_of`, and where a shard cannot be read or holds other
            tensors than the index says.
    """
    weight_map = _weight_map(index)
    tensors: dict[str, Tensor] = {}
    meta: dict[str, str] = {}
    for shard in shards_of(index):
        content = read_safetensors(shard)
        named = {key for key, name in weight_map.items() if name == shard.name}
        odd = sorted(named ^ content['state_dict'].keys())
        if odd:
            where = 'lacks' if odd[0] in named else 'holds, against the index,'
            raise ValueError(
                f'{index}: its shard {shard.name} {where} {odd[0]}: they are of different checkpoints, get '
                'the index and all shards anew from one place'
            )
        tensors.update(content['state_dict'])
        meta.update(content['meta'])
    return {'state_dict': {key: tensors[key] for key in weight_map}, 'meta': meta}


def _weight_map(index: Path) -> dict[str, str]:
    """The name of the shard of each tensor; every shard is a file beside the index."""
    try:
        content = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise unreadable(index, f'no JSON: {error}') from None
    weight_map = content.get('weight_map') if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f'{index}: holds no weight_map, expected the shard of each tensor: get it anew')
    for key, name in weight_map.items():
        if not isinstance(name, str) or not re.fullmatch(r'[^/\\:\0]+\.safetensors', name):
            raise ValueError(
                f'{index}: {key} is in {name!r}, expected a .safetensors file in the same folder, named '
                'without a folder. Nothing was read; get the index from a source that you trust'
            )
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not index.with_name(name).is_file()]
    if missing:
        raise FileNotFoundError(
            f'{index}: its shard {missing[0]} is missing, with it {len(missing)} of {len(names)}; put '
            'all shards beside the index'
        )
    return weight_map
