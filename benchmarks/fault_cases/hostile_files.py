"""Write hostile checkpoints: payloads that run when unpickled, invalid headers, decompression bombs."""

import copy
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

BOMB = 16 << 30
"""Size of the decompressed bombs in bytes."""


class Payload:
    """Creates the folder ``path`` when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def _content(place: str, made: Path) -> dict:
    """Return a checkpoint like those of training, with the payload in one of its entries."""
    content: dict = {
        'state_dict': {'backbone.cls_token': torch.rand(1, 1, 4)},
        'meta': {'iter': 4},
        'optimizer': {'state': {}, 'param_groups': []},
    }
    content[place]['payload'] = Payload(made)
    return content


def _pth(place: str, legacy: bool) -> Callable[[Path, Path], None]:
    def write(file: Path, made: Path) -> None:
        torch.save(_content(place, made), file, _use_new_zipfile_serialization=not legacy)

    return write


def _bare_pickle(file: Path, made: Path) -> None:
    file.write_bytes(pickle.dumps(_content('meta', made)))


def _tar(file: Path, made: Path) -> None:
    with tarfile.open(file, 'w') as archive:
        for name in ('sys_info', 'pickle', 'tensors', 'storages'):
            data = pickle.dumps(Payload(made))
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def _torchscript(file: Path, made: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(file))
    with zipfile.ZipFile(file, 'a') as archive:  # pickled values next to the code
        archive.writestr(f'{file.stem}/extra/payload.pkl', pickle.dumps(Payload(made)))


def _npz_objects(file: Path, made: Path) -> None:
    np.savez(file, **{'cls': np.array([Payload(made)], dtype=object)})


def _npz_pickle(file: Path, made: Path) -> None:
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('cls.npy', pickle.dumps(Payload(made)))


def _npy_pickle(file: Path, made: Path) -> None:
    file.write_bytes(pickle.dumps(Payload(made)))


def _safetensors(header: dict | bytes, *, length: int | None = None, body: int = 64) -> Callable:
    def write(file: Path, made: Path) -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        size = len(text) if length is None else length
        file.write_bytes(size.to_bytes(8, 'little') + text + bytes(body))

    return write


def _tensor(begin: int = 0, end: int = 64, shape: tuple[int, ...] = (4, 4)) -> dict:
    return dict(dtype='F32', shape=shape, data_offsets=[begin, end])


def _bomb(name: str, magic: bytes = b'') -> Callable[[Path, Path], None]:
    """Write one compressed entry and list it many times in the directory of the archive."""

    def write(file: Path, made: Path) -> None:
        size = 64 << 20
        with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name.format(0), magic + bytes(size))
            (entry,) = archive.infolist()
            for i in range(1, BOMB // size):
                other = copy.copy(entry)
                other.filename = name.format(i)
                archive.filelist.append(other)

    return write


def _expanded(file: Path, made: Path) -> None:
    torch.save({'state_dict': {'backbone.cls_token': torch.ones(1).expand(BOMB // 4)}}, file)


def _html(file: Path, made: Path) -> None:
    file.write_text('<!DOCTYPE html><html><body>Please log in</body></html>')


NPY = b'\x93NUMPY\x01\x00v\x00' + b"{'descr': '|u1', 'fortran_order': False, 'shape': (67108864,), }".ljust(
    117
)
HOSTILE: dict[str, Callable[[Path, Path], None]] = {
    **{f'{place}_payload.pth': _pth(place, legacy=False) for place in ('state_dict', 'meta', 'optimizer')},
    **{f'{place}_legacy.pth': _pth(place, legacy=True) for place in ('state_dict', 'meta', 'optimizer')},
    'bare_pickle.pth': _bare_pickle,
    'tar.pth': _tar,
    'torchscript.pt': _torchscript,
    'objects.npz': _npz_objects,
    'pickle_inside.npz': _npz_pickle,
    'pickle.npz': _npy_pickle,
    'long_header.safetensors': _safetensors({'a': _tensor()}, length=2**62),
    'header_beyond.safetensors': _safetensors({'a': _tensor()}, length=1000),
    'overlap.safetensors': _safetensors({'a': _tensor(), 'b': _tensor()}),
    'beyond.safetensors': _safetensors({'a': _tensor(0, 64), 'b': _tensor(64, 128)}),
    'shape.safetensors': _safetensors({'a': _tensor(shape=(4, 5))}),
    'negative.safetensors': _safetensors({'a': _tensor(shape=(-4, -4))}),
    'no_json.safetensors': _safetensors(b'{"a": [[[[[['),
    'bomb.pth': _bomb('bomb/data/{}'),
    'bomb.npz': _bomb('array_{}.npy', NPY + b'\n'),
    'expanded.pth': _expanded,
    'page.pth': _html,
    'page.npz': _html,
    'page.safetensors': _html,
}
"""Functions that write a file, by file name; they take the file and the folder that a payload creates."""


def write_hostile(name: str, folder: Path) -> tuple[Path, Path]:
    """Write a file of ``HOSTILE`` to ``folder``; return it and the folder that its payload would create."""
    file, made = folder / name, folder / 'made'
    HOSTILE[name](file, made)
    return file, made
