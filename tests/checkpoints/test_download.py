"""A download is in the cache only if it is whole and what it is called."""

import hashlib
import http.server
import threading

import pytest
import torch
from safetensors.torch import save_file

from dpt.checkpoints import read_state_dict


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A web server of its own for each test: (address, files by path, list of requested paths)."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.setenv(name, '127.0.0.1')
    files: dict[str, tuple[bytes, int | None]] = {}
    requested: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 (the name http.server looks for)
            requested.append(self.path)
            body, announced = files.get(self.path, (b'', -1))
            self.send_response(404 if announced == -1 else 200)
            if announced is not None:
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


def cached(tmp_path) -> list:
    return [path for path in (tmp_path / 'home').rglob('*') if path.is_file()]


@pytest.mark.parametrize('name', ['model.pth', 'model.safetensors', 'model.npz'])
def test_a_page_in_place_of_the_file_is_not_kept(tmp_path, served, name):
    address, files, requested = served
    page = b'<!DOCTYPE html><html>Please log in</html>'
    files[f'/{name}'] = (page, len(page))
    for _ in range(2):
        with pytest.raises(ValueError, match=rf'/{name}: what the server sent .* was not kept') as caught:
            read_state_dict(f'{address}/{name}')
        assert '.partial' not in str(caught.value)
        assert not cached(tmp_path)
    assert len(requested) == 2


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_a_file_cut_short_without_an_announced_length_is_not_kept(tmp_path, served, suffix):
    address, files, _ = served
    if suffix == 'pth':
        body = _bytes_of(tmp_path, 1.0)
    else:
        save_file({'a': torch.ones(500)}, tmp_path / 'made.safetensors')
        body = (tmp_path / 'made.safetensors').read_bytes()
    files[f'/x.{suffix}'] = (body[:-100], None)
    with pytest.raises(ValueError, match='was not kept'):
        read_state_dict(f'{address}/x.{suffix}')
    assert not cached(tmp_path)
    files[f'/x.{suffix}'] = (body, None)
    assert read_state_dict(f'{address}/x.{suffix}')['a'][0] == 1


def test_the_hash_in_the_name_is_checked(tmp_path, served):
    address, files, _ = served
    body = _bytes_of(tmp_path, 1.0)
    digest = hashlib.sha256(body).hexdigest()
    good, bad = f'/vit_224-{digest[:8]}.pth', '/vit_224-80ecf9dd.pth'
    for name in (good, bad, f'{bad}.tar', '/vit-20230101.pth', f'/vit-{digest}.pth'):
        files[name] = (body, len(body))
    with pytest.raises(ValueError, match=rf'{bad}\.tar: .* begins with 80ecf9dd'):
        read_state_dict(f'{address}{bad}.tar')
    with pytest.raises(ValueError, match=rf'{bad}: .* begins with 80ecf9dd, .* begins with {digest[:8]}'):
        read_state_dict(address + bad)
    assert not cached(tmp_path)
    for name in (good, '/vit-20230101.pth', f'/vit-{digest}.pth'):
        assert read_state_dict(address + name)['a'][0] == 1


def test_a_payload_from_the_web_is_refused_and_not_kept(tmp_path, served):
    address, files, _ = served
    torch.save({'a': torch.ones(1), 'hook': print}, tmp_path / 'made.pth')
    body = (tmp_path / 'made.pth').read_bytes()
    files['/x.pth'] = (body, len(body))
    with pytest.raises(ValueError, match=r'/x\.pth: .* asks for print'):
        read_state_dict(f'{address}/x.pth')
    assert not cached(tmp_path)
