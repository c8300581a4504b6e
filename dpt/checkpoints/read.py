"""Read local or remote checkpoint files into plain dicts, without executing code from the file."""

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

from .download import download, download_from_hub, sha256

_INDEX = '.safetensors.index.json'  # maps each tensor to its shard
_CONTAINERS = ('state_dict', 'model_state_dict', 'model', 'teacher')  # teacher: DINO
_PREFIXES = ('_orig_mod.', 'module.', 'model.')  # torch.compile, data parallel, Lightning
_COUNT = 'n_averaged'  # in torch's AveragedModel, next to the 'module.' keys

# The content of a file may be up to 16 times its size plus 64 MiB. Trained weights hardly compress, but small
# files of zeros do.
_LARGEST_RATIO = 16
_FREE = 64 << 20


_NOT_RUN = 'No code in it was run. Use a file with only the state dict, such as .safetensors'


class NotRead:
    """Replaces an object that is neither a tensor nor a plain value; ignores its arguments and state."""

    __slots__ = ()

    def __new__(cls, *arguments: object) -> 'NotRead':
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


# Classes and functions in the pickle of mmengine's message_hub. They are all unpickled as NotRead; the real
# getattr, for example, would give the file access to any function.
_STAND_INS: list = [
    (NotRead, 'argparse.Namespace'),  # command line arguments, in checkpoints of DINO and MAE
    (NotRead, 'mmengine.logging.history_buffer.HistoryBuffer'),
    *((NotRead, name) for name in ('builtins.getattr', 'numpy.ndarray', 'numpy.dtype')),
    *((NotRead, f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
    *((NotRead, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read the weights and plain values of a checkpoint file into CPU memory.

    In files of mmengine's runner, such as those of MMSegmentation, the history of the training log and all
    numpy values become :class:`NotRead`.

    Args:
        path: Path or http(s) URL of a ``torch.save`` file (``.pth``, ``.pt``, ``.bin``, ``.ckpt``,
            ``.pth.tar``), a ``.safetensors`` or ``.npz`` file; the path of a sharded checkpoint, which is its
            ``.safetensors.index.json`` or the folder that contains it; or the safetensors of a model on
            Hugging Face, ``hf://OWNER/NAME`` or ``timm://NAME``.

    Returns:
        The dict in the file; for safetensors, ``{'state_dict': tensors, 'meta': metadata strings}``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it cannot be downloaded or read, contains objects other than tensors and plain values,
            or is not a dict.
    """
    file = local_file(path)
    return _READERS[_suffix(file.name)](file)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, without containers and wrappers.

    Containers are ``state_dict``, ``model_state_dict``, ``model`` and ``teacher``. Wrappers are one or more
    prefixes that all keys share: ``_orig_mod.`` of torch.compile, ``module.`` of data parallel and averaged
    models, and ``model.`` of Lightning.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: As :func:`read_checkpoint`, or if the content is not a non-empty dict of tensors.
    """
    return state_dict_of(read_checkpoint(path), path)


def state_dict_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Return the tensors in the result of :func:`read_checkpoint`, as :func:`read_state_dict` does.

    Raises:
        ValueError: If the content is not a non-empty dict of tensors.
    """
    *_, (state_dict, _) = unwrappings(content, path)
    return state_dict


def unwrappings(
    content: Mapping[Any, Any], path: str | Path
) -> Iterator[tuple[dict[str, Tensor], tuple[str, ...]]]:
    """Remove the wrappers in the result of :func:`read_checkpoint` one by one, from the outside in.

    Yields:
        The tensors, first with all wrappers and then after the removal of each one, and the names of the
        removed container and wrappers, omitting the usual ``state_dict``.

    Raises:
        ValueError: As :func:`state_dict_of`.
    """
    name = _container(content)
    if name is not None:
        content = content[name]
    if not content or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        kinds = [f'{key!r} is a {type(value).__name__}' for key, value in list(content.items())[:5]]
        rest = f' and {len(content) - len(kinds)} more' if len(content) > len(kinds) else ''
        raise ValueError(
            f'{path}: not a state dict: {", ".join(kinds) or "it is empty"}{rest}. Expected a dict of '
            f'tensors, at the top level or under {" or ".join(map(repr, _CONTAINERS))}'
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
    """Return the wrapper prefix that all keys share, or ``''``."""
    for prefix in _PREFIXES:
        if keys and all(key.startswith(prefix) and key != prefix for key in keys):
            return prefix
    return ''


def _container(content: Mapping[Any, Any]) -> str | None:
    return next((name for name in _CONTAINERS if isinstance(content.get(name), Mapping)), None)


def choice_of_weights(path: str | Path) -> tuple[str, list[str]] | None:
    """Return the name of the weights that :func:`read_state_dict` reads, and the names of alternatives.

    An alternative is, for example, an average. Returns None if the file has no alternatives.
    """
    content = read_checkpoint(path)
    taken = _container(content)
    if taken is None:
        return None
    dicts = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    others = [name for name in dicts if name != taken and dicts[name].keys() & dicts[taken].keys()]
    return (taken, others) if others else None


def holds_unread(content: object) -> bool:
    """Return whether any value in a checkpoint, at any depth, is :class:`NotRead`."""
    return any(isinstance(value, NotRead) for value in _leaves(content))


def checkpoint_hash(path: str | Path) -> str:
    """Return the first 8 hexadecimal digits of the SHA-256, as in the names of released checkpoints.

    For a sharded checkpoint, the hash covers the index and all shards, sorted by name.
    """
    file = local_file(path)
    shards = _shards(file) if _suffix(file.name) == _INDEX else {}
    return sha256(file, *sorted(set(shards.values())))[:8]


def _suffix(name: str) -> str:
    """Return the longest supported suffix of a file name, in lower case, or ``''``."""
    return max((suffix for suffix in _READERS if name.lower().endswith(suffix)), key=len, default='')


def local_file(path: str | Path) -> Path:
    """Return the file, downloading it from a URL if needed, or the index in a folder."""
    if str(path).startswith(('hf://', 'timm://')):
        return download_from_hub(str(path))
    is_url = str(path).startswith(('http://', 'https://'))
    file = Path(path).expanduser()
    if not is_url and file.is_dir():
        found = sorted(file.glob(f'*{_INDEX}')) or sorted(
            one for one in file.iterdir() if _suffix(one.name) and one.is_file()
        )
        if len(found) == 1:
            return found[0]
        here = ', '.join(one.name for one in found) or 'none'
        raise ValueError(
            f'{file}: not a file, expected a checkpoint, or a folder with one checkpoint or one *{_INDEX} '
            f'(found: {here})'
        )
    name = Path(urllib.parse.urlparse(str(path)).path).name if is_url else file.name
    suffix = _suffix(name)
    if not suffix:
        raise ValueError(
            f'{path}: unknown checkpoint format, expected a name that ends in {", ".join(_READERS)}'
        )
    if is_url and suffix == _INDEX:
        raise ValueError(
            f'{path}: sharded checkpoints cannot be read from a URL; download the index and all shards into '
            'one folder'
        )
    if is_url:
        return download(str(path), name, _READERS[suffix])
    if not file.exists():
        raise FileNotFoundError(
            f'{path}: the checkpoint file does not exist; check the path (the current directory is '
            f'{Path.cwd()})'
        )
    if not file.is_file():
        raise ValueError(f'{path}: not a file, expected a checkpoint')
    return file


def _damaged(file: Path, cause: str) -> ValueError:
    return ValueError(
        f'{file}: cannot be read ({cause}; {file.stat().st_size:,} bytes). The file may be truncated, or an '
        'error page saved under this name; delete it and download it again'
    )


def _read_torch(file: Path) -> dict[str, Any]:
    # torch's messages suggest disabling the safe mode, so they are neither shown nor chained.
    if zipfile.is_zipfile(file):
        _check_archive(file, ratio=1)  # torch does not compress
    try:
        with warnings.catch_warnings(), safe_globals(_STAND_INS):
            warnings.simplefilter('ignore')  # such as those about pickle protocols
            content = torch.load(file, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(
            r'(?:Unsupported global: GLOBAL|unsupported GLOBAL|Unsupported class) (\S+)', str(error)
        )
        if asked is None and not re.search(r'Trying to call|Can only|attempted to set items', str(error)):
            raise _damaged(file, 'not a torch checkpoint') from None
        raise ValueError(
            f'{file}: refused, because loading it would run '
            f'{asked[1] if asked else "a call that no checkpoint needs"}; a checkpoint may contain only '
            f'tensors and plain values. {_NOT_RUN}'
        ) from None
    except Exception as error:  # a damaged archive can raise any exception
        cause = str(error).split('. ')[0]
        if not cause or isinstance(error, KeyError):  # an unknown opcode
            cause = 'not a torch checkpoint'
        kind = next(
            (kind for kind in ('TorchScript', '.tar') if kind in cause and 'weights_only' in cause), None
        )
        if kind is None:
            raise _damaged(file, cause) from None
        raise ValueError(
            f'{file}: refused, because loading a {kind} file of torch runs code from it. {_NOT_RUN}'
        ) from None
    if not isinstance(content, dict):
        raise ValueError(
            f'{file}: contains a {type(content).__name__}, expected a dict of tensors (a state dict)'
        )
    # An expanded tensor (stride 0) is small in the file but large when copied.
    tensors = [value for value in _leaves(content) if isinstance(value, Tensor)]
    _check_size(file, sum(one.numel() * one.element_size() for one in tensors), _LARGEST_RATIO, 'copied')
    return content


def _read_npz(file: Path) -> dict[str, Tensor]:
    """Read the arrays of a file of google-research/vision_transformer."""
    _check_archive(file, _LARGEST_RATIO)
    try:
        # numpy does not close a file that it cannot read.
        with file.open('rb') as stream, np.load(stream, allow_pickle=False) as content:
            arrays = {key: np.asarray(content[key]) for key in content.files}  # bytes if not .npy
    except Exception as error:  # a damaged archive can raise any exception
        if 'allow_pickle' in str(error):
            raise ValueError(
                f'{file}: refused, because it contains pickled objects instead of numbers. {_NOT_RUN}'
            ) from None
        raise _damaged(file, str(error) or type(error).__name__) from None
    for key, array in arrays.items():
        if array.dtype.kind not in 'fiu':
            raise ValueError(f'{file}: {key} contains {array.dtype}, expected numbers; save them as float32')
    return {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays.items()}


def _read_safetensors(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework='pt', device='cpu') as content:
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 (not a dict)
            return {'state_dict': tensors, 'meta': dict(content.metadata() or {})}
    except (SafetensorError, OSError, MemoryError, ValueError, KeyError) as error:
        raise _damaged(file, str(error)) from None


def _read_shards(index: Path) -> dict[str, Any]:
    """Read all shards of an index; return the same as :func:`_read_safetensors`."""
    shards = _shards(index)
    tensors: dict[str, Tensor] = {}
    meta: dict[str, str] = {}
    for shard in sorted(set(shards.values())):
        content = _read_safetensors(shard)
        named = {key for key, file in shards.items() if file == shard}
        if odd := sorted(named ^ content['state_dict'].keys()):
            where = 'lacks' if odd[0] in named else 'contains the unlisted tensor'
            raise ValueError(f'{index}: its shard {shard.name} {where} {odd[0]}; download all files again')
        tensors.update(content['state_dict'])
        meta.update(content['meta'])
    return {'state_dict': {key: tensors[key] for key in shards}, 'meta': meta}


def _shards(index: Path) -> dict[str, Path]:
    """Return the shard of each tensor, after checking that it exists in the folder of the index."""
    try:
        content = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(index, f'not JSON: {error}') from None
    weight_map = content.get('weight_map') if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f'{index}: has no weight_map, which maps each tensor to its shard')
    for key, name in weight_map.items():
        if not isinstance(name, str) or not re.fullmatch(r'[^/\\:\0]+\.safetensors', name):
            raise ValueError(
                f'{index}: {key} is in {name!r}, expected the name of a .safetensors file in the same '
                'folder. Nothing was read; use an index from a trusted source'
            )
        if not index.with_name(name).is_file():
            raise FileNotFoundError(
                f'{index}: its shard {name} is missing; put all shards in the folder of the index'
            )
    return {key: index.with_name(name) for key, name in weight_map.items()}


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    **dict.fromkeys(('.pth', '.pt', '.bin', '.ckpt', '.pth.tar'), _read_torch),
    '.safetensors': _read_safetensors,
    _INDEX: _read_shards,
    '.npz': _read_npz,
}


def _check_archive(file: Path, ratio: int) -> None:
    """Raise ValueError if a zip archive is unreadable, or too large according to its directory.

    Reading stops at the size that the directory gives for an entry, so these sizes are an upper bound.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            content = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
        raise _damaged(file, str(error)) from None
    _check_size(file, content, ratio, 'unpacked')


def _check_size(file: Path, content: int, ratio: int, how: str) -> None:
    size = file.stat().st_size
    if content > ratio * size + _FREE:
        raise ValueError(
            f'{file}: refused, because its {size:,} bytes would become {content:,} when {how}, far more than '
            'expected of weights. Use a file from a trusted source'
        )


def _leaves(content: object) -> Iterator[Any]:
    """Yield all values in nested dicts, lists and tuples, visiting each container once.

    A malicious file can contain a list that refers twice to another list, and so on; visiting 60 such lists
    repeatedly would never finish.
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
