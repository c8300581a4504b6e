"""A download is in the cache only if it is complete and what its name says."""

import hashlib
import http.server
import json
import threading
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save

from dpt.checkpoints import read_state_dict


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A web server: its address, what it serves (path: (body, announced length)), what was requested."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.setenv(name, '127.0.0.1')
    web = SimpleNamespace(files={}, requested=[])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 (the name http.server looks for)
            web.requested.append(self.path)
            body, announced = web.files.get(self.path, (b'', 0))
            self.send_response(200 if self.path in web.files else 404)
            if announced is not None:
                self.send_header('Content-Length', str(announced))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    web.read = lambda path: read_state_dict(f'http://127.0.0.1:{server.server_port}{path}')
    web.cached = lambda: [path for path in (tmp_path / 'home').rglob('*') if path.is_file()]
    yield web
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def content(tmp_path):
    def make(value=1.0, suffix='.pth', **extra):
        tensors = {'a': torch.full((500,), value)}
        if suffix == '.safetensors':
            return save(tensors)
        torch.save({**tensors, **extra}, tmp_path / 'made.pth')
        return (tmp_path / 'made.pth').read_bytes()

    return make


def test_each_address_is_downloaded_once(web, content):
    values = {f'/{name}/model.pth?download=true': value for name, value in (('one', 1.0), ('two', 2.0))}
    for path, value in values.items():
        body = content(value)
        web.files[path] = (body, len(body))
    for path, value in (*values.items(), *values.items()):
        assert web.read(path)['a'][0] == value
    assert web.requested == list(values)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('announced', [True, False])
def test_truncated_download_is_not_kept(web, content, suffix, announced):
    body, path = content(suffix=suffix), f'/x{suffix}'
    length = len(body) if announced else None
    web.files[path] = (body[:-100], length)
    words = f'download failed .*{len(body) - 100} of {len(body)} bytes' if announced else 'was deleted'
    with pytest.raises(ValueError, match=rf'{path}: .*{words}'):
        web.read(path)
    assert not web.cached()
    web.files[path] = (body, length)
    assert web.read(path)['a'][0] == 1


def test_missing_page_is_one_clear_error(web):
    with pytest.raises(ValueError, match=r'/nothing\.pth: download failed .*404'):
        web.read('/nothing.pth')


@pytest.mark.parametrize('name', ['model.pth', 'model.safetensors', 'model.npz'])
def test_page_instead_of_the_file_is_not_kept(web, name):
    page = b'<!DOCTYPE html><html>Please log in</html>'
    web.files[f'/{name}'] = (page, len(page))
    for _ in range(2):
        with pytest.raises(ValueError, match=rf'/{name}: the downloaded file .* was deleted') as caught:
            web.read(f'/{name}')
        assert '.partial' not in str(caught.value)
        assert not web.cached()
    assert len(web.requested) == 2


def test_hash_in_the_name_is_checked(web, content):
    body = content()
    digest = hashlib.sha256(body).hexdigest()
    good = (f'/vit_224-{digest[:8]}.pth', '/vit-20230101.pth', f'/vit-{digest}.pth')
    bad = ('/vit_224-80ecf9dd.pth', '/vit_224-80ecf9dd.pth.tar')
    web.files.update(dict.fromkeys((*good, *bad), (body, len(body))))
    for path in bad:
        with pytest.raises(ValueError, match=rf'{path}: .* with 80ecf9dd, .* begins with {digest[:8]}'):
            web.read(path)
        assert not web.cached()
    for path in good:
        assert web.read(path)['a'][0] == 1


def test_payload_from_the_web_is_refused(web, content):
    body = content(hook=print)
    web.files['/x.pth'] = (body, len(body))
    with pytest.raises(ValueError, match=r'/x\.pth: .* would run print'):
        web.read('/x.pth')
    assert not web.cached()


@pytest.fixture
def hub(tmp_path, monkeypatch, content):
    """A stand-in for the hub: the repositories asked for, and a cache with files named after their hash."""
    hub = SimpleNamespace(asked=[], error=None, stored=None, name='model.safetensors')

    def snapshot_download(name, *, revision, allow_patterns):
        hub.asked.append((name, revision))
        if hub.error:
            raise hub.error
        folder = tmp_path / 'snapshot'
        folder.mkdir(exist_ok=True)
        body = content(suffix='.safetensors')
        hub.stored = tmp_path / hashlib.sha256(body).hexdigest()
        if not hub.stored.exists():
            hub.stored.write_bytes(body)
        if not (folder / hub.name).is_symlink():
            (folder / hub.name).symlink_to(hub.stored)
        return str(folder)

    monkeypatch.setattr(pytest.importorskip('huggingface_hub'), 'snapshot_download', snapshot_download)
    return hub


def test_models_of_the_hub_are_read_by_name(hub):
    for name in ('timm://vit.tag', 'hf://me/vit@v1'):
        assert read_state_dict(name)['a'][0] == 1
    assert hub.asked == [('timm/vit.tag', None), ('me/vit', 'v1')]


@pytest.mark.parametrize('sharded', [False, True])
def test_other_files_in_the_hub_cache_are_not_read(hub, tmp_path, sharded) -> None:
    folder = tmp_path / 'snapshot'
    folder.mkdir()
    torch.save({'a': torch.zeros(500)}, folder / 'pytorch_model.bin')
    (folder / 'other.safetensors').write_bytes(save({'a': torch.zeros(500)}))
    (folder / 'other.safetensors.index.json').write_text('{}')
    if sharded:
        hub.name = 'model-00001-of-00001.safetensors'
        index = json.dumps({'weight_map': {'a': hub.name}})
        (folder / 'model.safetensors.index.json').write_text(index)
    assert read_state_dict('hf://me/vit')['a'][0] == 1


def test_model_of_the_hub_without_safetensors_is_one_line(hub) -> None:
    hub.name = 'other.safetensors'
    with pytest.raises(ValueError, match='hf://me/vit has neither model.safetensors nor '):
        read_state_dict('hf://me/vit')


def test_altered_file_of_the_hub_is_deleted(hub):
    read_state_dict('timm://vit.tag')
    hub.stored.write_bytes(hub.stored.read_bytes()[:-1] + b'x')
    with pytest.raises(ValueError, match='model.safetensors does not match its hash'):
        read_state_dict('timm://vit.tag')
    assert not hub.stored.exists()
    assert read_state_dict('timm://vit.tag')['a'][0] == 1


def test_hub_without_network_is_one_clear_error(hub):
    hub.error = OSError('cannot reach\nthe hub')
    with pytest.raises(
        ValueError, match=r'timm://vit.tag: download failed \(cannot reach the hub\); .*/timm/vit'
    ) as caught:
        read_state_dict('timm://vit.tag')
    assert '\n' not in str(caught.value)
