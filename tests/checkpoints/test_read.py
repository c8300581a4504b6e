"""Files are read without running them; what cannot be used says so in one line."""

import hashlib
import http.server
import os
import pickle
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dpt.checkpoints import checkpoint_hash, read_checkpoint, read_state_dict


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


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A web server of its own for each test: (address, files by path, list of requested paths)."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.setenv(name, '127.0.0.1')
    files: dict[str, tuple[bytes, int]] = {}
    requested: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 (the name http.server looks for)
            requested.append(self.path)
            body, announced = files.get(self.path, (b'', -1))
            self.send_response(404 if announced < 0 else 200)
            self.send_header('Content-Length', str(max(announced, 0)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}', files, requested
    server.shutdown()
    thread.join()
    server.server_close()


def _bytes_of(tmp_path, value: float) -> bytes:
    torch.save({'a': torch.full((500,), value)}, tmp_path / 'made.pth')
    return (tmp_path / 'made.pth').read_bytes()


def test_an_address_is_downloaded_once_and_never_mistaken_for_another(tmp_path, served):
    address, files, requested = served
    for name, value in (('one', 1.0), ('two', 2.0)):
        body = _bytes_of(tmp_path, value)
        files[f'/{name}/model.pth?download=true'] = (body, len(body))
    for _ in range(2):
        for name, value in (('one', 1.0), ('two', 2.0)):
            assert read_state_dict(f'{address}/{name}/model.pth?download=true')['a'][0] == value
    assert len(requested) == 2


def test_a_download_that_ends_early_leaves_nothing(tmp_path, served):
    address, files, _ = served
    body = _bytes_of(tmp_path, 1.0)
    files['/model.pth'] = (body[:100], len(body))
    with pytest.raises(ValueError, match=rf'model\.pth: download failed .*100 of {len(body)} bytes'):
        read_state_dict(f'{address}/model.pth')
    assert not [path for path in (tmp_path / 'home').rglob('*') if path.is_file()]
    files['/model.pth'] = (body, len(body))
    assert read_state_dict(f'{address}/model.pth')['a'][0] == 1


def test_a_missing_page_is_one_clear_error(served):
    with pytest.raises(ValueError, match=r'/nothing\.pth: download failed .*404'):
        read_state_dict(f'{served[0]}/nothing.pth')
