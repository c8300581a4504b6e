"""Files are read without running them; what cannot be used is refused in one line."""

import hashlib
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from safetensors.torch import save_file
from tiny_checkpoints import Holder, assert_holds, model_shapes, random_tensors, refused
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dpt.checkpoints import checkpoint_hash, load_model, read_checkpoint, read_state_dict
from dpt.checkpoints.read import holds_unread


class Payload:
    """Unpickled, it makes the folder at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_wrappers_of_torch_are_removed(tmp_path):
    inner = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for wrapped in (torch.compile(inner), AveragedModel(inner), AveragedModel(nn.DataParallel(inner))):
        torch.save(wrapped.state_dict(), tmp_path / 'x.pth')
        assert same(read_state_dict(tmp_path / 'x.pth'), inner.state_dict())
    for key in ('model.a', '_orig_mod.a', 'module.a', 'n_averaged'):  # on some keys it is a name
        weights = {key: torch.rand(2), 'b': torch.rand(2)}
        torch.save(weights, tmp_path / 'x.pth')
        assert same(read_state_dict(tmp_path / 'x.pth'), weights)


@pytest.mark.parametrize('suffix', ['.bin', '.ckpt', '.pth.tar', '.PTH.TAR', '.pt'])
@pytest.mark.parametrize('zipped', [True, False])
def test_files_of_torch_under_other_names(tmp_path, suffix, zipped):
    path, made = tmp_path / f'x{suffix}', tmp_path / 'made'
    content = {'state_dict': {'a': torch.rand(3)}, 'meta': {'classes': ['sky']}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(path), content['state_dict'])
    assert read_checkpoint(path)['meta'] == {'classes': ['sky']}
    torch.save({**content, 'hook': Payload(made)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf'{path.name}: refused, because loading it would run \w+\.mkdir'):
        read_checkpoint(path)
    assert not made.exists()


def save_as_runner(path: Path, **extra: object) -> dict[str, torch.Tensor]:
    """Write a file as mmengine's runner does: with the whole message hub, log of past values included."""
    hub = MessageHub('test')
    for value in (0.5, np.float32(0.25), torch.tensor(0.125)):
        hub.update_scalar('train/loss', value)
    for key, value in dict(iter=2, rate=np.float64(1e-4), order=np.arange(3)).items():
        hub.update_info(key, value)
    weights = {'a.weight': torch.rand(2, 3)}
    meta = {'cfg': "default_scope = 'mmseg'", 'dataset_meta': {'classes': ('sky', 'road')}}
    content = dict(meta=meta, state_dict=weights, message_hub=hub.state_dict(), optimizer={'state': {}})
    torch.save({**content, **extra}, path)
    return weights


def test_files_of_mmengines_runner_are_read_without_log(tmp_path):
    path = tmp_path / 'iter_2.pth'
    weights = save_as_runner(path)
    with pytest.raises(pickle.UnpicklingError, match='HistoryBuffer|getattr|numpy'):
        torch.load(path, weights_only=True)
    assert same(read_state_dict(path), weights)
    content = read_checkpoint(path)
    assert content['meta']['dataset_meta'] == {'classes': ('sky', 'road')}
    assert content['message_hub']['runtime_info']['iter'] == 2
    assert holds_unread(content['message_hub'])
    assert not holds_unread({**content, 'message_hub': None})
    save_as_runner(path, hook=Payload(tmp_path / 'made'))
    with pytest.raises(ValueError, match=r'iter_2\.pth: refused, because loading it would run \w+\.mkdir'):
        read_checkpoint(path)
    assert not (tmp_path / 'made').exists()


def replace_pickle(path: Path, data: bytes) -> None:
    """Put another pickle into a torch archive, as an attacker would."""
    torch.save({'a': torch.ones(1)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (name,) = [name for name in entries if name.endswith('data.pkl')]
    entries[name] = data
    with zipfile.ZipFile(path, 'w') as archive:
        for entry, body in entries.items():
            archive.writestr(entry, body)


@pytest.mark.parametrize('module', [b'numpy._core.', b'numpy.core.'], ids=['numpy 2', 'numpy 1'])
def test_values_of_both_numpy_versions_are_skipped(tmp_path, module):
    content = pickle.dumps({'meta': np.arange(3), 'a': np.float64(1)}, protocol=2)
    replace_pickle(tmp_path / 'x.pth', content.replace(b'numpy._core.', module))
    assert holds_unread(read_checkpoint(tmp_path / 'x.pth')['meta'])


def call(function: bytes, *arguments: bytes) -> bytes:
    """Opcodes of a call: function and arguments are opcodes themselves, the result is left on the stack."""
    return function + b'(' + b''.join(arguments) + b'tR'


def text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value)) + value.encode()


GETATTR, HISTORY = b'cbuiltins\ngetattr\n', b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
IMPORT, TENSOR = b'cbuiltins\n__import__\n', b'ctorch\nFloatStorage\n'


@pytest.mark.parametrize(
    'lead',
    [
        b'cos\nmkdir\n',
        b'cposix\nmkdir\n',
        IMPORT,
        b'cmmengine.logging.history_buffer\nnp\n',
        b'cbuiltins\neval\n',
        call(GETATTR, b'cos\n__dict__\n', text('mkdir')),
        call(GETATTR, TENSOR, text('__init__')),
        call(GETATTR, call(GETATTR, TENSOR, text('__class__')), text('__subclasses__')),
        call(GETATTR, HISTORY, text('__init__')),
        call(GETATTR, call(HISTORY), text('mkdir')),
        call(b'cnumpy._core.multiarray\n_reconstruct\n', b'cnumpy\nndarray\n'),
    ],
)
def test_stand_ins_lead_to_no_function(tmp_path, lead):
    path, made = tmp_path / 'x.pth', tmp_path / 'made'
    replace_pickle(path, b'\x80\x02' + call(lead, text(str(made))) + b'.')
    with pytest.raises(ValueError, match=r'x\.pth: refused, because loading it would run') as caught:
        read_checkpoint(path)
    assert 'weights_only' not in str(caught.value)
    assert caught.value.__suppress_context__
    assert not made.exists()


def test_such_calls_run_where_pickles_are_trusted(tmp_path):
    lead = call(GETATTR, call(IMPORT, text('os')), text('mkdir'))
    pickle.loads(call(lead, text(str(tmp_path / 'made'))) + b'.')
    pickle.loads(pickle.dumps(Payload(tmp_path / 'made too')))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize('name', ['__setstate__', 'update', 'mean'])
def test_stand_in_keeps_nothing(tmp_path, name):
    value = call(GETATTR, call(HISTORY, text('x')), text(name)) + b'}' + text('__class__') + b'K\x01sb'
    replace_pickle(tmp_path / 'x.pth', b'\x80\x02}' + text('log') + value + b's.')
    content = read_checkpoint(tmp_path / 'x.pth')['log']
    assert type(content).__name__ == 'NotRead'
    assert not hasattr(content, '__dict__')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors', '.npz'])
@pytest.mark.parametrize('keep', [0, 20, 2000, -10], ids=['empty', 'start', 'half', 'almost'])
def test_truncated_files_are_named(tmp_path, suffix, keep):
    path, weights = tmp_path / f'x{suffix}', {'a': torch.rand(1000)}
    if suffix == '.pth':
        torch.save(weights, path)
    elif suffix == '.npz':
        np.savez(path, a=weights['a'].numpy())
    else:
        save_file(weights, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf'x\{suffix}: cannot be read .*truncated') as caught:
        read_state_dict(path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ({'epoch': 3, 'a': torch.ones(1)}, "'epoch' is a int"),
        ({'state_dict': {'a': [1, 2]}}, "'a' is a list"),
        ({'state_dict': {}}, 'it is empty'),
        ({}, 'it is empty'),
        ([torch.ones(1)], 'contains a list'),
        (nn.Linear(2, 2), 'Linear'),
        ({'state_dict': nn.Linear(2, 2)}, 'Linear'),
        (b'<html>404</html>', 'error page'),
        (b'hello\n', '(not a torch checkpoint; 6 bytes)'),
    ],
)
def test_other_content_is_described(tmp_path, content, words):
    path = tmp_path / 'x.pth'
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=r'x\.pth: ') as caught:
        read_state_dict(path)
    assert words in str(caught.value)


def test_missing_and_unsuitable_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth: the checkpoint file does not exist'):
        read_state_dict(tmp_path / 'nowhere.pth')
    (tmp_path / 'folder.pth').mkdir()
    (tmp_path / 'hub').mkdir()
    (tmp_path / 'hub' / 'config.json').write_text('{}')
    torch.save({'a': torch.ones(1)}, tmp_path / 'hub' / 'pytorch_model.bin')
    assert read_state_dict(tmp_path / 'hub') == {'a': torch.ones(1)}  # a folder with one checkpoint
    torch.save({}, tmp_path / 'hub' / 'other.pth')
    with pytest.raises(ValueError, match=r'found: other.pth, pytorch_model.bin'):
        read_state_dict(tmp_path / 'hub')
    with pytest.raises(ValueError, match='not a file'):
        read_state_dict(tmp_path / 'folder.pth')
    with pytest.raises(ValueError, match=r'weights\.onnx: unknown checkpoint format.*\.safetensors'):
        read_state_dict(tmp_path / 'weights.onnx')


def test_hash_is_the_beginning_of_sha256(tmp_path):
    (tmp_path / 'x.pth').write_bytes(b'weights' * 300_000)
    assert checkpoint_hash(tmp_path / 'x.pth') == hashlib.sha256(b'weights' * 300_000).hexdigest()[:8]


@pytest.mark.parametrize(
    ('array', 'words'),
    [
        (np.array([{}], dtype=object), 'x.npz: refused, because it contains pickled objects'),
        (np.array(['text']), 'x.npz: a contains <U4'),
        (None, 'x.npz: cannot be read'),  # a single array, not an archive of them
    ],
)
def test_other_arrays_than_numbers_are_refused(tmp_path, array, words):
    with (tmp_path / 'x.npz').open('wb') as file:
        np.save(file, np.zeros(3)) if array is None else np.savez(file, a=array)
    with pytest.raises(ValueError, match='x') as caught:
        read_state_dict(tmp_path / 'x.npz')
    assert words in str(caught.value)


class TestSize:
    """Content that is far larger than its file."""

    def test_zip_bomb_is_refused_by_its_directory(self, tmp_path):
        with zipfile.ZipFile(tmp_path / 'x.npz', 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('a.npy', bytes(66 << 20))
        with pytest.raises(ValueError, match=r'x\.npz: refused, .* would become 69,206,016 when unpacked'):
            read_checkpoint(tmp_path / 'x.npz')

    def test_compressed_weights_are_read(self, tmp_path):
        random = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
        np.savez_compressed(tmp_path / 'x.npz', a=random, b=np.zeros(10**6))
        assert set(read_checkpoint(tmp_path / 'x.npz')) == {'a', 'b'}

    @pytest.mark.parametrize('nest', [lambda x: {'a': x}, lambda x: {'state_dict': {'a': [x]}}])
    def test_expanded_tensors_count_in_full(self, tmp_path, nest):
        torch.save(nest(torch.ones(1).expand(64 << 20)), tmp_path / 'x.pth')
        with pytest.raises(ValueError, match='when copied'):
            read_checkpoint(tmp_path / 'x.pth')
        torch.save(nest(torch.ones(3, 1).expand(3, 1000)), tmp_path / 'x.pth')
        read_checkpoint(tmp_path / 'x.pth')

    def test_tied_weights_may_be_named_twice(self, tmp_path):
        tied = torch.rand(16 << 20)
        torch.save({'a': tied, 'b': tied}, tmp_path / 'x.pth')
        assert read_state_dict(tmp_path / 'x.pth').keys() == {'a', 'b'}

    def test_nested_lists_are_visited_once(self, tmp_path):
        doubled = [1]
        for _ in range(200):
            doubled = [doubled, doubled]
        torch.save({'meta': doubled}, tmp_path / 'x.pth')
        assert not holds_unread(read_checkpoint(tmp_path / 'x.pth'))
        deep: list = []
        for _ in range(100_000):
            deep = [deep]
        assert not holds_unread(deep)


SHARDS = ('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')


class TestShards:
    @pytest.fixture
    def shards(self, tmp_path):
        """A model in two shards: (folder, index, tensors)."""
        tensors = random_tensors(model_shapes())
        keys = list(tensors)
        weight_map = dict.fromkeys(keys[::2], SHARDS[0]) | dict.fromkeys(keys[1::2], SHARDS[1])
        for name in SHARDS:
            part = {key: tensors[key] for key in keys if weight_map[key] == name}
            save_file(part, tmp_path / name, metadata={'format': 'pt'})
        index = tmp_path / 'model.safetensors.index.json'
        self.write_index(index, weight_map)
        return tmp_path, index, tensors

    @staticmethod
    def write_index(index, weight_map):
        index.write_text(json.dumps({'metadata': {'total_size': 1}, 'weight_map': weight_map}))

    def change_index(self, index, **weights):
        self.write_index(index, json.loads(index.read_text())['weight_map'] | weights)

    @pytest.mark.parametrize('given', [0, 1], ids=['folder', 'index'])
    def test_sharded_weights_load(self, shards, given):
        module = Holder(model_shapes())
        load_model(module, shards[given])
        assert_holds(module, shards[2])
        assert read_checkpoint(shards[given])['meta'] == {'format': 'pt'}

    def test_missing_shard_is_named_in_one_line(self, shards):
        (shards[0] / SHARDS[1]).unlink()
        with pytest.raises(FileNotFoundError, match=f'its shard {SHARDS[1]} is missing') as caught:
            read_checkpoint(shards[0])
        assert str(shards[1]) in str(caught.value)
        assert '\n' not in str(caught.value)

    @pytest.mark.parametrize(
        'name',
        ['../x.safetensors', '/tmp/x.safetensors', 'a\\x.safetensors', 'x.pth', 'x\0.safetensors', '', 3],
    )
    def test_shards_elsewhere_are_refused(self, shards, name):
        folder, index, tensors = shards
        save_file(tensors, folder.parent / 'x.safetensors')
        self.change_index(index, **{'backbone.pos_embed': name})
        refused(load_model, Holder(model_shapes()), index, 'backbone.pos_embed is in', 'same folder')

    def test_index_of_other_shards_is_refused(self, shards):
        _, index, _ = shards
        self.change_index(index, extra=SHARDS[0])
        refused(load_model, Holder(model_shapes()), index, f'{SHARDS[0]} lacks extra')
        self.write_index(index, {'backbone.cls_token': SHARDS[0]})
        refused(load_model, Holder(model_shapes()), index, f'{SHARDS[0]} contains the unlisted tensor')

    @pytest.mark.parametrize(
        ('content', 'words'), [('<html>', 'not JSON'), ('[' * 100_000, 'not JSON'), ('{}', 'no weight_map')]
    )
    def test_damaged_index_is_refused(self, shards, content, words):
        shards[1].write_text(content)
        assert '\n' not in refused(load_model, Holder(model_shapes()), shards[1], words)

    def test_index_must_be_one_local_file(self, shards):
        folder, index, _ = shards
        (folder / 'other.safetensors.index.json').write_bytes(index.read_bytes())
        (folder / 'empty').mkdir()
        address = 'https://localhost/model.safetensors.index.json'
        for path, *words in (
            (folder, 'other.safetensors.index.json', index.name),
            (folder / 'empty', 'found: none'),
            (address, 'cannot be read from a URL'),
        ):
            refused(load_model, Holder(model_shapes()), path, *words)

    def test_hash_covers_all_shards(self, shards):
        folder, index, tensors = shards
        before = checkpoint_hash(folder)
        assert before == checkpoint_hash(index)
        save_file({key: torch.zeros_like(tensors[key]) for key in list(tensors)[1::2]}, folder / SHARDS[1])
        assert checkpoint_hash(folder) != before
