"""Reads checkpoint files, local or from the web, into plain dicts. Nothing in a file is ever executed."""

import json
import pickle
import re
import urllib.parse
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.serialization import safe_globals

from .download import download, sha256

_INDEX = '.safetensors.index.json'  # says which shard holds which tensor
_CONTAINERS = ('state_dict', 'model_state_dict', 'model', 'teacher')  # DINO evaluates its teacher
_PREFIXES = ('_orig_mod.', 'module.', 'model.')  # torch.compile, data parallel, Lightning
_COUNT = 'n_averaged'  # beside the 'module.' keys of torch's AveragedModel

# A file may hold 16 times its size, since trained weights hardly compress, and 64 MiB in any case, since
# small files of zeros do.
_LARGEST_RATIO = 16
_FREE = 64 << 20


_NOT_RUN = 'Nothing in it was run. Get a file with the state dict alone, for example as .safetensors'


class NotRead:
    """Replaces an object that is neither a tensor nor a plain value; it ignores everything it is given."""

    __slots__ = ()

    def __new__(cls, *arguments: object) -> 'NotRead':
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


# What mmengine's log of past values (message_hub) is pickled with. A file that names one of these gets the
# stand-in, never the real thing: getattr above all would hand a file the way to any function.
_STAND_INS: list = [
    (NotRead, 'argparse.Namespace'),  # the arguments of the run, in checkpoints of DINO and MAE
    (NotRead, 'mmengine.logging.history_buffer.HistoryBuffer'),
    *((NotRead, name) for name in ('builtins.getattr', 'numpy.ndarray', 'numpy.dtype')),
    *((NotRead, f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
    *((NotRead, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a whole checkpoint file onto the CPU: the weights and the plain values beside them.

    In files of mmengine's runner, such as those of MMSegmentation, the past values of the training log and
    all numpy values become :class:`NotRead`.

    Args:
        path: a path or http(s) address of a file of ``torch.save`` (``.pth``, ``.pt``, ``.bin``, ``.ckpt``,
            ``.pth.tar``), a ``.safetensors`` or ``.npz`` file, or a path of a sharded checkpoint: its
            ``.safetensors.index.json`` or the folder that holds it.

    Returns:
        The dict in the file; for safetensors ``{'state_dict': tensors, 'meta': metadata strings}``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it cannot be downloaded or read, holds objects other than tensors and plain values, or is
            not a dict.
    """
    file = _local_file(path)
    return _READERS[_suffix(file.name)](file)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, without containers and wrappers.

    Containers are ``state_dict``, ``model_state_dict``, ``model`` and ``teacher``. Wrappers are prefixes that
    every key has: ``_orig_mod.`` of torch.compile, ``module.`` of data parallel and averaged models, and
    ``model.`` of Lightning, also several of them.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_checkpoint`, and where there are no tensors or something
            else is among them.
    """
    *_, (state_dict, _) = unwrappings(path)
    return state_dict


def unwrappings(path: str | Path) -> Iterator[tuple[dict[str, Tensor], tuple[str, ...]]]:
    """Read a checkpoint and remove its wrappers one by one, the outermost first.

    Yields:
        The tensors before the first wrapper is removed and after each, and the names of what was removed,
        except ``state_dict``, which nearly every file has.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_state_dict`.
    """
    content: Mapping[Any, Any] = read_checkpoint(path)
    name = _container(content)
    if name is not None:
        content = content[name]
    if not content or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        kinds = [f'{key!r} is a {type(value).__name__}' for key, value in list(content.items())[:5]]
        rest = f' and {len(content) - len(kinds)} more' if len(content) > len(kinds) else ''
        raise ValueError(
            f'{path}: not a state dict: {", ".join(kinds) or "it is empty"}{rest}. Expected a dict of '
            f'tensors, bare or under {" or ".join(map(repr, _CONTAINERS))}'
        )
    state_dict = dict(content)
    taken = () if name in (None, 'state_dict') else (name,)
    while True:
        yield state_dict, taken
        averaged = {key: value for key, value in state_dict.items() if key != _COUNT}
        if len(averaged) < len(state_dict) and _common_prefix(averaged) == 'module.':
            state_dict, taken = averaged, (*taken, _COUNT)
        prefix = _common_prefix(state_dict)
        if not prefix:
            return
        state_dict = {key.removeprefix(prefix): value for key, value in state_dict.items()}
        taken = (*taken, prefix)


def _common_prefix(keys: Collection[str]) -> str:
    """The wrapper's prefix that every key has; empty if there is none."""
    for prefix in _PREFIXES:
        if keys and all(key.startswith(prefix) and key != prefix for key in keys):
            return prefix
    return ''


def _container(content: Mapping[Any, Any]) -> str | None:
    return next((name for name in _CONTAINERS if isinstance(content.get(name), Mapping)), None)


def choice_of_weights(path: str | Path) -> tuple[str, list[str]] | None:
    """The name of the weights that :func:`read_state_dict` takes, and those of others such as an average.

    None if the file holds no others.
    """
    content = read_checkpoint(path)
    taken = _container(content)
    if taken is None:
        return None
    dicts = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    others = [name for name in dicts if name != taken and dicts[name].keys() & dicts[taken].keys()]
    return (taken, others) if others else None


def holds_unread(content: object) -> bool:
    """Whether some value of a checkpoint, at any depth, was not read (:class:`NotRead`)."""
    return any(isinstance(value, NotRead) for value in _leaves(content))


def checkpoint_hash(path: str | Path) -> str:
    """First 8 hexadecimal digits of the file's SHA-256, as in the names of released checkpoints.

    The hash of a sharded checkpoint is over its index and all its shards, in the order of their names.
    """
    file = _local_file(path)
    shards = _shards(file) if _suffix(file.name) == _INDEX else {}
    return sha256(file, *sorted(set(shards.values())))[:8]


def _suffix(name: str) -> str:
    """The longest known ending of a name, in lower case; empty if there is none."""
    return max((suffix for suffix in _READERS if name.lower().endswith(suffix)), key=len, default='')


def _local_file(path: str | Path) -> Path:
    """The file of a path or an http(s) address, or the index in a folder."""
    is_url = str(path).startswith(('http://', 'https://'))
    file = Path(path).expanduser()
    if not is_url and file.is_dir():
        found = sorted(file.glob(f'*{_INDEX}'))
        if len(found) == 1:
            return found[0]
        here = ', '.join(one.name for one in found) or 'none'
        raise ValueError(
            f'{file}: not a file, expected a checkpoint or a folder with one *{_INDEX} (it has {here})'
        )
    name = Path(urllib.parse.urlparse(str(path)).path).name if is_url else file.name
    suffix = _suffix(name)
    if not suffix:
        raise ValueError(
            f'{path}: unknown kind of checkpoint, expected a name ending in {", ".join(_READERS)}'
        )
    if is_url and suffix == _INDEX:
        raise ValueError(f'{path}: not read from the web: download the index and all shards into one folder')
    if is_url:
        return download(str(path), name, _READERS[suffix])
    if not file.exists():
        raise FileNotFoundError(f'{path}: no such checkpoint file; check the path (you are in {Path.cwd()})')
    if not file.is_file():
        raise ValueError(f'{path}: not a file, expected a checkpoint')
    return file


def _damaged(file: Path, cause: str) -> ValueError:
    return ValueError(
        f'{file}: cannot be read ({cause}; {file.stat().st_size:,} bytes). It may be truncated or an error '
        'page saved under this name: delete it and fetch it again'
    )


def _read_torch(file: Path) -> dict[str, Any]:
    # torch's own messages propose to switch the safe mode off, so they are neither shown nor chained.
    if zipfile.is_zipfile(file):
        _check_archive(file, ratio=1)  # torch compresses nothing
    try:
        with warnings.catch_warnings(), safe_globals(_STAND_INS):
            warnings.simplefilter('ignore')  # odd pickle protocols: the outcome says enough
            content = torch.load(file, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(
            r'(?:Unsupported global: GLOBAL|unsupported GLOBAL|Unsupported class) (\S+)', str(error)
        )
        if asked is None and not re.search(r'Trying to call|Can only|attempted to set items', str(error)):
            raise _damaged(file, 'not a torch checkpoint') from None
        raise ValueError(
            f'{file}: refused, because it asks for '
            f'{asked[1] if asked else "a call that no checkpoint needs"}; a checkpoint may hold tensors and '
            f'plain values only. {_NOT_RUN}'
        ) from None
    except Exception as error:  # a damaged archive can fail in any way
        cause = str(error).split('. ')[0]
        if not cause or isinstance(error, KeyError):  # the number of an unknown opcode
            cause = 'not a torch checkpoint'
        kind = next(
            (kind for kind in ('TorchScript', '.tar') if kind in cause and 'weights_only' in cause), None
        )
        if kind is None:
            raise _damaged(file, cause) from None
        raise ValueError(
            f'{file}: refused, because it is {kind} of torch, which loads only by running it. {_NOT_RUN}'
        ) from None
    if not isinstance(content, dict):
        raise ValueError(
            f'{file}: holds a {type(content).__name__}, expected a dict of tensors (a state dict)'
        )
    # An expanded tensor (stride 0) is small in the file and large once it is copied.
    tensors = [value for value in _leaves(content) if isinstance(value, Tensor)]
    _check_size(file, sum(one.numel() * one.element_size() for one in tensors), _LARGEST_RATIO, 'copied')
    return content


def _read_npz(file: Path) -> dict[str, Tensor]:
    """Read the arrays of a file of google-research/vision_transformer."""
    _check_archive(file, _LARGEST_RATIO)
    try:
        # Opened here: numpy does not close a file that it cannot read.
        with file.open('rb') as stream, np.load(stream, allow_pickle=False) as content:
            arrays = {key: np.asarray(content[key]) for key in content.files}  # bytes where it is not an .npy
    except Exception as error:  # a damaged archive can fail in any way
        if 'allow_pickle' in str(error):
            raise ValueError(
                f'{file}: refused, because it holds pickled objects instead of numbers. {_NOT_RUN}'
            ) from None
        raise _damaged(file, str(error) or type(error).__name__) from None
    for key, array in arrays.items():
        if array.dtype.kind not in 'fiu':
            raise ValueError(f'{file}: {key} holds {array.dtype}, expected numbers: save them as float32')
    return {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays.items()}


def _read_safetensors(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework='pt', device='cpu') as content:
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 (not a dict)
            return {'state_dict': tensors, 'meta': dict(content.metadata() or {})}
    except (SafetensorError, OSError, MemoryError, ValueError, KeyError) as error:
        raise _damaged(file, str(error)) from None


def _read_shards(index: Path) -> dict[str, Any]:
    """Read all shards that an index names, as :func:`_read_safetensors` does one file."""
    shards = _shards(index)
    tensors: dict[str, Tensor] = {}
    meta: dict[str, str] = {}
    for shard in sorted(set(shards.values())):
        content = _read_safetensors(shard)
        named = {key for key, file in shards.items() if file == shard}
        if odd := sorted(named ^ content['state_dict'].keys()):
            where = 'lacks' if odd[0] in named else 'holds, against the index,'
            raise ValueError(f'{index}: its shard {shard.name} {where} {odd[0]}: get all files anew')
        tensors.update(content['state_dict'])
        meta.update(content['meta'])
    return {'state_dict': {key: tensors[key] for key in shards}, 'meta': meta}


def _shards(index: Path) -> dict[str, Path]:
    """The file of each tensor, which exists beside the index."""
    try:
        content = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(index, f'not JSON: {error}') from None
    weight_map = content.get('weight_map') if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f'{index}: holds no weight_map, expected the shard of each tensor')
    for key, name in weight_map.items():
        if not isinstance(name, str) or not re.fullmatch(r'[^/\\:\0]+\.safetensors', name):
            raise ValueError(
                f'{index}: {key} is in {name!r}, expected the name of a .safetensors file in the same '
                'folder. Nothing was read; get the index from a source that you trust'
            )
        if not index.with_name(name).is_file():
            raise FileNotFoundError(f'{index}: its shard {name} is missing; put all shards beside the index')
    return {key: index.with_name(name) for key, name in weight_map.items()}


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    **dict.fromkeys(('.pth', '.pt', '.bin', '.ckpt', '.pth.tar'), _read_torch),
    '.safetensors': _read_safetensors,
    _INDEX: _read_shards,
    '.npz': _read_npz,
}


def _check_archive(file: Path, ratio: int) -> None:
    """Raise ValueError if a zip archive is unreadable, or its directory announces too much content.

    Reading stops where the directory says that an entry ends, so that the announced sizes are a bound.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            content = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise _damaged(file, str(error)) from None
    _check_size(file, content, ratio, 'unpacked')


def _check_size(file: Path, content: int, ratio: int, how: str) -> None:
    size = file.stat().st_size
    if content > ratio * size + _FREE:
        raise ValueError(
            f'{file}: refused, because its {size:,} bytes would become {content:,} when {how}, far more than '
            'weights do. Nothing in it was used; get the file from a source that you trust'
        )


def _leaves(content: object) -> Iterator[Any]:
    """All values in nested dicts, lists and tuples, at any depth, each container once.

    A file can name one list twice in another, that one twice in a third, and so on: visiting 60 of them more
    than once would not end.
    """
    seen: set[int] = set()
    waiting: list[Any] = [content]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, (Mapping, list, tuple)):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, Mapping) else value)
