"""No code runs from a checkpoint, whichever way it is loaded; a refusal is a line that names the file."""

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
import pytest
import torch
from mmengine.config import Config

from dpt.apis import init_model
from dpt.checkpoints import read_checkpoint
from dpt.config.load import load_config
from dpt.engine import build_runner
from dpt.extras.profiling.timing import AddedMemory

BOMB = 16 << 30  # bytes, decompressed
Write = Callable[[Path, Path], object]


class Payload:
    """Creates the folder ``path`` when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def _content(place: str, made: Path) -> dict:
    """A checkpoint like those of training, with the payload in one of its entries."""
    content: dict = {
        'state_dict': {'backbone.cls_token': torch.rand(1, 1, 4)},
        'meta': {'iter': 4},
        'optimizer': {'state': {}, 'param_groups': []},
    }
    content[place]['payload'] = Payload(made)
    return content


def _pth(place: str, legacy: bool) -> Write:
    def write(file: Path, made: Path) -> None:
        torch.save(_content(place, made), file, _use_new_zipfile_serialization=not legacy)

    return write


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


def _npz_pickle(file: Path, made: Path) -> None:
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('cls.npy', pickle.dumps(Payload(made)))


def _safetensors(header: dict | bytes, *, length: int | None = None, body: int = 64) -> Callable:
    def write(file: Path, made: Path) -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        size = len(text) if length is None else length
        file.write_bytes(size.to_bytes(8, 'little') + text + bytes(body))

    return write


def _tensor(begin: int = 0, end: int = 64, shape: tuple[int, ...] = (4, 4)) -> dict:
    return dict(dtype='F32', shape=shape, data_offsets=[begin, end])


def _bomb(name: str, magic: bytes = b'') -> Write:
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


HEADER = b"{'descr': '|u1', 'fortran_order': False, 'shape': (67108864,), }"
PAGE = '<!DOCTYPE html><html><body>Please log in</body></html>'
HOSTILE: dict[str, Write] = {
    **{f'{place}_payload.pth': _pth(place, legacy=False) for place in ('state_dict', 'meta', 'optimizer')},
    **{f'{place}_legacy.pth': _pth(place, legacy=True) for place in ('state_dict', 'meta', 'optimizer')},
    'bare_pickle.pth': lambda file, made: file.write_bytes(pickle.dumps(_content('meta', made))),
    'tar.pth': _tar,
    'torchscript.pt': _torchscript,
    'objects.npz': lambda file, made: np.savez(file, cls=np.array([Payload(made)], dtype=object)),
    'pickle_inside.npz': _npz_pickle,
    'pickle.npz': lambda file, made: file.write_bytes(pickle.dumps(Payload(made))),
    'long_header.safetensors': _safetensors({'a': _tensor()}, length=2**62),
    'header_beyond.safetensors': _safetensors({'a': _tensor()}, length=1000),
    'overlap.safetensors': _safetensors({'a': _tensor(), 'b': _tensor()}),
    'beyond.safetensors': _safetensors({'a': _tensor(0, 64), 'b': _tensor(64, 128)}),
    'shape.safetensors': _safetensors({'a': _tensor(shape=(4, 5))}),
    'negative.safetensors': _safetensors({'a': _tensor(shape=(-4, -4))}),
    'no_json.safetensors': _safetensors(b'{"a": [[[[[['),
    'bomb.pth': _bomb('bomb/data/{}'),
    'bomb.npz': _bomb('array_{}.npy', b'\x93NUMPY\x01\x00v\x00' + HEADER.ljust(117) + b'\n'),
    'expanded.pth': lambda file, made: torch.save(
        {'state_dict': {'a': torch.ones(1).expand(BOMB // 4)}}, file
    ),
    **dict.fromkeys(('page.pth', 'page.npz', 'page.safetensors'), lambda file, made: file.write_text(PAGE)),
}


def write_hostile(name: str, folder: Path) -> tuple[Path, Path]:
    """Write one of these files; returns it and the folder that its payload would create."""
    file, made = folder / name, folder / 'made'
    HOSTILE[name](file, made)
    return file, made


@pytest.fixture(scope='module')
def config(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config(
        str(repository / 'configs/quickstart.py'),
        {'model.backbone.embed_dims': 16, 'model.neck.in_channels': 16},
        str(tmp_path_factory.mktemp('work')),
    )


def load_from(config: Config, file: Path) -> None:
    config.model.init_cfg = dict(type='Pretrained', checkpoint=str(file))  # what load_from becomes
    init_model(config).init_weights()


def backbone(config: Config, file: Path) -> None:
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(file))
    init_model(config).init_weights()


def resume(config: Config, file: Path) -> None:
    config.resume, config.load_from = True, str(file)
    build_runner(config)


WAYS = {'load_from': load_from, 'backbone': backbone, 'resume': resume, 'api': init_model}


def assert_refused(load: Callable, file: Path, made: Path) -> None:
    before = set(file.parent.iterdir())
    with pytest.raises(ValueError, match=file.name.replace('.', r'\.')) as caught:
        load(file)
    assert '\n' not in str(caught.value)
    assert 'weights_only' not in str(caught.value)
    assert not made.exists()
    assert set(file.parent.iterdir()) == before


@pytest.mark.parametrize('name', HOSTILE)
def test_reading_refuses_in_one_line(name: str, tmp_path: Path) -> None:
    assert_refused(read_checkpoint, *write_hostile(name, tmp_path))


@pytest.mark.parametrize('name', ['bomb.pth', 'bomb.npz', 'expanded.pth'])
def test_bombs_are_refused_before_they_expand(name: str, tmp_path: Path) -> None:
    file, _ = write_hostile(name, tmp_path)
    memory = AddedMemory(torch.device('cpu'))
    with pytest.raises(ValueError, match='would become'):
        read_checkpoint(file)
    assert memory.mib() < 200


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('name', ['optimizer_payload.pth', 'meta_legacy.pth', 'objects.npz', 'bomb.pth'])
def test_every_way_into_a_model_refuses(config: Config, way: str, name: str, tmp_path: Path) -> None:
    assert_refused(lambda file: WAYS[way](copy.deepcopy(config), file), *write_hostile(name, tmp_path))


@pytest.mark.parametrize('name', ['state_dict_payload.pth', 'meta_payload.pth', 'optimizer_legacy.pth'])
@pytest.mark.parametrize(
    'tool',
    [
        'publish_model',
        *(f'model_converters/{name}' for name in ('vit2mmseg', 'isl2dpt', 'dpt2mmseg', 'dpt2hf')),
    ],
)
def test_every_tool_refuses(tool_main: Callable, tool: str, name: str, tmp_path: Path, capsys) -> None:
    file, made = write_hostile(name, tmp_path)
    assert tool_main(f'tools/{tool}.py')(file, tmp_path / 'out.pth') == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(file) in line
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize('name', [name for name in HOSTILE if 'payload' in name or 'legacy' in name])
def test_payloads_run_when_unpickled(name: str, tmp_path: Path) -> None:
    file, made = write_hostile(name, tmp_path)
    torch.load(file, weights_only=False)
    assert made.is_dir()
