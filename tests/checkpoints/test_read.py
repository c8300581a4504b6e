"""Files are read without running them; what cannot be used says so in one line."""

import hashlib
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
from torch import nn

from dpt.checkpoints import checkpoint_hash, read_checkpoint, read_state_dict
from dpt.checkpoints.read import holds_unread


class Payload:
    """Unpickled, it makes the folder at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def _same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda weights: weights,
        lambda weights: {'state_dict': weights, 'meta': {'epoch': 3}},
        lambda weights: {'model': weights, 'optimizer': {'state': {}}},
        lambda weights: {'state_dict': {f'module.{key}': value for key, value in weights.items()}},
    ],
    ids=['bare', 'state_dict', 'model', 'module'],
)
def test_containers_and_wrappers_are_taken_off(tmp_path, wrap):
    weights = {'a.weight': torch.rand(2, 3), 'a.bias': torch.rand(2).half()}
    torch.save(wrap(weights), tmp_path / 'x.pth')
    assert _same(read_state_dict(tmp_path / 'x.pth'), weights)


def test_a_module_prefix_on_some_keys_is_a_name_like_any_other(tmp_path):
    weights = {'module.a': torch.rand(2), 'b': torch.rand(2)}
    torch.save(weights, tmp_path / 'x.pt')
    assert _same(read_state_dict(str(tmp_path / 'x.pt')), weights)


def test_safetensors_with_metadata(tmp_path):
    weights = {'a': torch.rand(2, 3), 'b': torch.arange(4)}
    save_file(weights, tmp_path / 'x.safetensors', metadata={'source': 'here'})
    assert read_checkpoint(tmp_path / 'x.safetensors')['meta'] == {'source': 'here'}
    assert _same(read_state_dict(tmp_path / 'x.safetensors'), weights)


def test_read_checkpoint_keeps_what_stands_beside_the_weights(tmp_path):
    torch.save({'state_dict': {'a': torch.ones(1)}, 'meta': {'classes': ['sky']}}, tmp_path / 'x.pth')
    assert read_checkpoint(tmp_path / 'x.pth')['meta'] == {'classes': ['sky']}


def test_a_payload_is_refused_and_does_not_run(tmp_path):
    path, made = tmp_path / 'x.pth', tmp_path / 'made'
    torch.save({'state_dict': {'a': torch.ones(1)}, 'meta': Payload(made)}, path)
    with pytest.raises(ValueError, match=r'x\.pth: refused, because it asks for \w+\.mkdir') as caught:
        read_state_dict(path)
    assert not made.exists()
    assert 'weights_only' not in str(caught.value)
    assert caught.value.__suppress_context__
    pickle.loads(pickle.dumps(Payload(made)))
    assert made.exists(), 'the payload is one: unpickled carelessly it does run'


def _save_as_runner(path: Path, **extra: object) -> dict[str, torch.Tensor]:
    """Write a file as mmengine's runner does: with the whole message hub, log of past values included."""
    hub = MessageHub('test')
    for value in (0.5, np.float32(0.25), torch.tensor(0.125)):
        hub.update_scalar('train/loss', value)
    for key, value in dict(iter=2, rate=np.float64(1e-4), order=np.arange(3)).items():
        hub.update_info(key, value)
    weights = {'a.weight': torch.rand(2, 3)}
    meta = {'cfg': "default_scope = 'mmseg'", 'iter': 2, 'dataset_meta': {'classes': ('sky', 'road')}}
    content = dict(meta=meta, state_dict=weights, message_hub=hub.state_dict(), optimizer={'state': {}})
    torch.save({**content, **extra}, path)
    return weights


def test_a_file_of_mmengines_runner_is_read_without_its_log(tmp_path):
    path = tmp_path / 'iter_2.pth'
    weights = _save_as_runner(path)
    with pytest.raises(pickle.UnpicklingError, match='HistoryBuffer|getattr|numpy'):
        torch.load(path, weights_only=True)
    assert _same(read_state_dict(path), weights)
    content = read_checkpoint(path)
    assert content['meta'] == {
        'cfg': "default_scope = 'mmseg'",
        'iter': 2,
        'dataset_meta': {'classes': ('sky', 'road')},
    }
    assert content['message_hub']['runtime_info']['iter'] == 2
    assert holds_unread(content['message_hub'])
    assert not holds_unread({**content, 'message_hub': None})


def test_names_of_older_numpy_are_known(tmp_path):
    # numpy 1 calls its module numpy.core, numpy 2 numpy._core: each name is 12 characters and one apart.
    content = pickle.dumps({'meta': np.arange(3), 'a': np.float64(1)}, protocol=2)
    older = content.replace(b'numpy._core.', b'numpy.core.')
    for name, data in (('new', content), ('old', older)):
        torch.save({'a': torch.ones(1)}, tmp_path / f'{name}.pth')
        _replace_pickle(tmp_path / f'{name}.pth', data)
        assert holds_unread(read_checkpoint(tmp_path / f'{name}.pth')['meta'])


def _replace_pickle(path: Path, data: bytes) -> None:
    """Put another pickle into a torch archive, as somebody who means harm would."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (name,) = [name for name in entries if name.endswith('data.pkl')]
    entries[name] = data
    with zipfile.ZipFile(path, 'w') as archive:
        for entry, body in entries.items():
            archive.writestr(entry, body)


def _call(function: bytes, *arguments: bytes) -> bytes:
    """Opcodes of a call: function and arguments are opcodes themselves, the result is left on the stack."""
    return function + b'(' + b''.join(arguments) + b'tR'


def _text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value)) + value.encode()


GETATTR, HISTORY = b'cbuiltins\ngetattr\n', b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
TENSOR = b'ctorch\nFloatStorage\n'


@pytest.mark.parametrize(
    'lead',
    [
        b'cos\nmkdir\n',
        b'cposix\nmkdir\n',
        b'cbuiltins\n__import__\n',
        b'cmmengine.logging.history_buffer\nnp\n',
        b'cbuiltins\neval\n',
        _call(GETATTR, b'cos\n__dict__\n', _text('mkdir')),
        _call(GETATTR, TENSOR, _text('__init__')),
        _call(GETATTR, _call(GETATTR, TENSOR, _text('__class__')), _text('__subclasses__')),
        _call(GETATTR, HISTORY, _text('__init__')),
        _call(GETATTR, _call(HISTORY), _text('mkdir')),
        _call(b'cnumpy._core.multiarray\n_reconstruct\n', b'cnumpy\nndarray\n'),
    ],
)
def test_no_way_leads_from_the_stand_ins_to_a_function(tmp_path, lead):
    path, made = tmp_path / 'x.pth', tmp_path / 'made'
    torch.save({'a': torch.ones(1)}, path)
    _replace_pickle(path, b'\x80\x02' + _call(lead, _text(str(made))) + b'.')
    with pytest.raises(ValueError, match=r'x\.pth: refused, because it asks for') as caught:
        read_checkpoint(path)
    assert 'weights_only' not in str(caught.value)
    assert not made.exists()


def test_such_calls_do_run_where_pickles_are_trusted(tmp_path):
    made = tmp_path / 'made'
    pickle.loads(
        _call(
            _call(GETATTR, _call(b'cbuiltins\n__import__\n', _text('os')), _text('mkdir')), _text(str(made))
        )
        + b'.'
    )
    assert made.exists()


@pytest.mark.parametrize('name', ['__setstate__', 'update', 'mean'])
def test_what_a_file_calls_on_a_stand_in_does_nothing(tmp_path, name):
    path = tmp_path / 'x.pth'
    torch.save({'a': torch.ones(1)}, path)
    value = _call(GETATTR, _call(HISTORY, _text('x')), _text(name)) + b'}' + _text('__class__') + b'K\x01sb'
    _replace_pickle(path, b'\x80\x02}' + _text('log') + value + b's.')
    content = read_checkpoint(path)['log']
    assert type(content).__name__ == 'NotRead'
    assert not hasattr(content, '__dict__')


def test_a_payload_beside_a_log_is_refused(tmp_path):
    made = tmp_path / 'made'
    _save_as_runner(tmp_path / 'x.pth', hook=Payload(made))
    with pytest.raises(ValueError, match=r'x\.pth: refused, because it asks for \w+\.mkdir'):
        read_checkpoint(tmp_path / 'x.pth')
    assert not made.exists()


@pytest.mark.parametrize(
    'content', [nn.Linear(2, 2), {'state_dict': nn.Linear(2, 2)}], ids=['model', 'inside']
)
def test_a_pickled_model_is_refused(tmp_path, content):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='Linear'):
        read_state_dict(tmp_path / 'x.pth')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('keep', [0, 20, 2000, -10], ids=['empty', 'start', 'half', 'almost'])
def test_a_truncated_file_is_named(tmp_path, suffix, keep):
    path = tmp_path / f'x{suffix}'
    weights = {'a': torch.rand(1000)}
    if suffix == '.pth':
        torch.save(weights, path)
    else:
        save_file(weights, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf'x\{suffix}: cannot be read .*truncated') as caught:
        read_state_dict(path)
    assert '\n' not in str(caught.value)


def test_an_error_page_is_not_a_checkpoint(tmp_path):
    (tmp_path / 'x.pth').write_text('<html>404</html>')
    with pytest.raises(ValueError, match='error page'):
        read_state_dict(tmp_path / 'x.pth')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'epoch': 3, 'a': torch.ones(1)}, "'epoch' is a int"),
        ({'state_dict': {'a': [1, 2]}}, "'a' is a list"),
        ({'state_dict': {}}, 'it is empty'),
        ({}, 'it is empty'),
        ([torch.ones(1)], 'holds a list'),
    ],
)
def test_what_is_no_state_dict_says_what_it_is(tmp_path, content, message):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=message) as caught:
        read_state_dict(tmp_path / 'x.pth')
    assert 'x.pth' in str(caught.value)


def test_missing_and_unsuitable_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.pth: no such checkpoint'):
        read_state_dict(tmp_path / 'nowhere.pth')
    (tmp_path / 'folder.pth').mkdir()
    with pytest.raises(ValueError, match='not a file'):
        read_state_dict(tmp_path / 'folder.pth')
    with pytest.raises(ValueError, match=r'weights\.onnx: unknown kind.*\.safetensors'):
        read_state_dict(tmp_path / 'weights.onnx')


def test_hash_is_the_beginning_of_sha256(tmp_path):
    (tmp_path / 'x.pth').write_bytes(b'weights' * 300_000)
    digest = hashlib.sha256(b'weights' * 300_000).hexdigest()
    assert checkpoint_hash(tmp_path / 'x.pth') == digest[:8]


def test_a_text_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / 'text.pth').write_text('hello, I am no picture\n')
    with pytest.raises(ValueError, match=r'text\.pth: cannot be read \(not a torch checkpoint; 23 bytes\)'):
        read_checkpoint(tmp_path / 'text.pth')
