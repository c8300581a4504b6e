"""Checkpoint files, local or from the web, to plain dicts. Nothing in a file is ever executed."""

import pickle
import re
import urllib.parse
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from .bounds import check_archive, check_tensors, leaves
from .download import download, sha256
from .read_npz import read_npz
from .read_safetensors import INDEX, index_in, read_safetensors, read_shards, shards_of, unreadable

SUFFIXES = ('.pth', '.pt', '.bin', '.ckpt', '.pth.tar', '.safetensors', INDEX, '.npz')
"""How names of checkpoints end; all that are not named below are files of ``torch.save``."""
_CONTAINERS = ('state_dict', 'model_state_dict', 'model', 'teacher')  # DINO evaluates its teacher
_PREFIXES = ('_orig_mod.', 'module.', 'model.')  # torch.compile, data parallel, Lightning
_COUNT = 'n_averaged'  # beside the 'module.' keys of torch's AveragedModel


class NotRead:
    """Stands in for an object of the training log that a file made by mmengine's runner holds.

    It takes whatever the file would hand to the real one, keeps nothing of it and does nothing.
    """

    __slots__ = ()

    def __new__(cls, *arguments: object) -> 'NotRead':
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# What mmengine's log of past values (message_hub) is pickled with. A file that names one of these gets the
# stand-in, never the real thing: getattr above all would hand a file the way to any function.
_STAND_INS: list = [
    (NotRead, name)
    for name in (
        'argparse.Namespace',  # the arguments of the run, in checkpoints of DINO and MAE
        'mmengine.logging.history_buffer.HistoryBuffer',
        'builtins.getattr',
        'numpy.ndarray',
        'numpy.dtype',
        'numpy.core.multiarray._reconstruct',
        'numpy.core.multiarray.scalar',
        'numpy._core.multiarray._reconstruct',
        'numpy._core.multiarray.scalar',
    )
]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a whole checkpoint file onto the CPU: the weights and whatever plain values stand beside them.

    Files of MMSegmentation and others that mmengine's runner saved are read, too: the past values of their
    training log become :class:`NotRead`, and numpy values, wherever they stand, likewise.

    Args:
        path: a path or http(s) address of a file of ``torch.save`` (``.pth``, ``.pt``, ``.bin``, ``.ckpt``,
            ``.pth.tar``), a ``.safetensors`` or ``.npz`` file, or a path of a sharded checkpoint: its
            ``.safetensors.index.json`` or the folder that holds it.

    Returns:
        The dict in the file; for safetensors ``{'state_dict': tensors, 'meta': metadata strings}``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be downloaded or read, holds objects other than tensors and plain values, or is
            not a dict.
    """
    file = local_file(path)
    return _read(file, _suffix(file.name))


def _suffix(name: str) -> str:
    """The longest known ending of a name, in lower case; empty if there is none."""
    return max((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), key=len, default='')


def _read(file: Path, suffix: str) -> dict[str, Any]:
    if suffix == '.safetensors':
        return read_safetensors(file)
    if suffix == INDEX:
        return read_shards(file)
    if suffix == '.npz':
        return read_npz(file)
    content = _read_torch(file)
    if not isinstance(content, dict):
        raise ValueError(
            f'{file}: holds a {type(content).__name__}, expected a dict of tensors (a state dict)'
        )
    check_tensors(file, content)
    return content


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, out of what training loops and wrappers put around them.

    These are containers (``state_dict``, ``model_state_dict``, ``model``, ``teacher``), and prefixes that
    every key has: ``_orig_mod.`` of torch.compile, ``module.`` of data parallel and averaged models, and
    ``model.`` of Lightning, also several of them.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_checkpoint`, and where no tensors are found or something
            else stands among them.
    """
    *_, (state_dict, _) = unwrappings(path)
    return state_dict


def unwrappings(path: str | Path) -> Iterator[tuple[dict[str, Tensor], tuple[str, ...]]]:
    """Read a checkpoint and take its wrappers off one by one, the outermost first.

    Yields:
        The tensors before the first wrapper is off and after each, and the names of what was taken off, save
        for ``state_dict``, which nearly every file has.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_state_dict`.
    """
    content: Mapping[Any, Any] = read_checkpoint(path)
    name = _container(content)
    if name is not None:
        content = content[name]
    others = [
        key for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)
    ]
    if others or not content:
        raise ValueError(
            f'{path}: not a state dict: {_describe(content)}. Expected a dict of tensors, '
            f'bare or under {" or ".join(map(repr, _CONTAINERS))}'
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
    """The name of the weights that :func:`read_state_dict` takes out of a file that holds several, and those
    it leaves, such as an exponential moving average; None where there are no others.
    """
    content = read_checkpoint(path)
    taken = _container(content)
    if taken is None:
        return None
    keys = content[taken].keys()
    others = [
        name
        for name, value in content.items()
        if name != taken and isinstance(value, Mapping) and value and keys & value.keys()
    ]
    return (taken, others) if others else None


def holds_unread(content: object) -> bool:
    """Whether some value of a checkpoint, at any depth, was not read (:class:`NotRead`)."""
    return any(isinstance(value, NotRead) for value in leaves(content))


def checkpoint_hash(path: str | Path) -> str:
    """First 8 hexadecimal digits of the file's SHA-256, as in the names of released checkpoints.

    That of a sharded checkpoint is over its index and all its shards, in the order of their names.
    """
    file = local_file(path)
    return sha256(file, *(shards_of(file) if _suffix(file.name) == INDEX else ()))[:8]


def local_file(path: str | Path) -> Path:
    """The file behind a path or an http(s) address, which is downloaded once; the index in a folder.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_checkpoint`.
    """
    if Path(path).expanduser().is_dir():
        return index_in(Path(path).expanduser())
    is_url = str(path).startswith(('http://', 'https://'))
    name = Path(urllib.parse.urlparse(str(path)).path).name if is_url else Path(path).name
    suffix = _suffix(name)
    if not suffix:
        raise ValueError(
            f'{path}: unknown kind of checkpoint, expected a name ending in {", ".join(SUFFIXES)}'
        )
    if is_url and suffix == INDEX:
        raise ValueError(
            f'{path}: the index of a sharded checkpoint is not read from the web: download it and all its '
            'shards into one folder, and give the path of the folder'
        )
    if is_url:
        return download(str(path), name, lambda file: _read(file, suffix))
    file = Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(
            f'{path}: no such checkpoint file; check the path (working folder: {Path.cwd()})'
        )
    if not file.is_file():
        raise ValueError(f'{path}: not a file, expected a checkpoint')
    return file


def _read_torch(file: Path) -> Any:
    # torch's own messages propose to switch the safe mode off, so they are neither shown nor chained.
    try:
        if zipfile.is_zipfile(file):
            check_archive(file, ratio=1)  # torch compresses nothing
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise unreadable(file, str(error)) from None
    try:
        with warnings.catch_warnings(), safe_globals(_STAND_INS):
            warnings.simplefilter('ignore')  # odd pickle protocols: the outcome says enough
            return torch.load(file, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(
            r'(?:Unsupported global: GLOBAL|unsupported GLOBAL|Unsupported class) (\S+)', str(error)
        )
        if refused is None and not re.search(r'Trying to call|Can only|attempted to set items', str(error)):
            raise unreadable(file, 'not a torch checkpoint') from None
        asked = refused[1] if refused else 'a call that no checkpoint needs'
        raise ValueError(
            f'{file}: refused, because it asks for {asked}; a checkpoint may hold tensors and plain '
            f'values only. Nothing of it was run. Get a file with the state dict alone, for example as '
            f'.safetensors'
        ) from None
    except Exception as error:  # a damaged archive can fail in any way
        cause = str(error).split('. ')[0]
        if not cause or isinstance(error, KeyError):  # the number of an opcode that there is not
            cause = 'not a torch checkpoint'
        for kind in ('TorchScript', '.tar'):
            if 'weights_only' in cause and kind in cause:
                raise ValueError(
                    f'{file}: refused, because it is {kind} of torch, which loads only by running what is in '
                    'it. Get a file with the state dict alone, for example as .safetensors'
                ) from None
        raise unreadable(file, cause) from None


def _describe(content: Mapping[Any, Any], count: int = 5) -> str:
    if not content:
        return 'it is empty'
    parts = [f'{key!r} is a {type(value).__name__}' for key, value in list(content.items())[:count]]
    rest = len(content) - len(parts)
    return ', '.join(parts) + (f' and {rest} more' if rest else '')
