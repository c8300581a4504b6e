"""Checkpoints from elsewhere: payloads on every way in, lying headers, bombs, downloads gone wrong."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from . import Fault
from .hostile_files import BOMB, HOSTILE, write_hostile
from .runs import measured, run_tool, tiny_config

CONVERTERS = 'tools/model_converters'
API = "import sys; from dpt.apis import init_model; init_model('{config}', sys.argv[1])"
MEMORY_SLACK = 200  # MiB between two refusals


def _ways(config: Path, file: Path, folder: Path) -> dict[str, tuple[object, ...]]:
    """The command of every way on which a checkpoint is loaded."""
    train = ('tools/train.py', config, '--work-dir', folder / 'work')
    pretrained = ('model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={file}')
    return {
        'load_from': (*train, '--cfg-options', f'load_from={file}'),
        'resume': (*train, '--resume', file),
        'backbone': (*train, '--cfg-options', *pretrained),
        'test': ('tools/test.py', config, file, '--work-dir', folder / 'work'),
        'api': ('-c', API.format(config=config), file),
        'vit2mmseg': (f'{CONVERTERS}/vit2mmseg.py', file, folder / 'out.pth'),
        'isl2dpt': (f'{CONVERTERS}/isl2dpt.py', file, folder / 'out.pth'),
        'dpt2mmseg': (f'{CONVERTERS}/dpt2mmseg.py', file, folder / 'out.pth'),
        'publish_model': ('tools/publish_model.py', file, folder / 'out.pth'),
    }


def payload_everywhere(folder: Path) -> tuple[str, bool]:
    """A payload beside the optimiser's state, on every way into the program."""
    config = tiny_config(folder, train=2, val=1)
    file, made = write_hostile('optimizer_payload.pth', folder)
    wrong = []
    ways = _ways(config, file, folder)
    for way, command in ways.items():
        result = run_tool(*command)
        refused = result.returncode == 1 and f'{file}: refused' in result.stderr
        # A line alone but for the interface, whose user has a traceback of his own.
        if not refused or ('Traceback' in result.stderr and way != 'api') or made.exists():
            wrong.append(f'{way}: {result.stderr[-200:]}')
    wrote = (folder / 'out.pth').exists()
    seen = f'{len(ways) - len(wrong)} of {len(ways)} ways refuse it by name; ran: {made.exists()}'
    return f'{seen} {" ".join(wrong)}', not wrong and not made.exists() and not wrote


def hostile_files(folder: Path) -> tuple[str, bool]:
    """Every kind of hostile file, to the tool that starts fastest."""
    wrong = []
    for name in HOSTILE:
        file, made = write_hostile(name, folder)
        result = run_tool('tools/publish_model.py', file, folder / 'out.pth')
        lines = result.stderr.strip().splitlines()
        if result.returncode != 1 or len(lines) != 1 or name not in lines[0] or made.exists():
            wrong.append(f'{name}: {result.stderr[-200:]}')
        file.unlink()
    return f'{len(HOSTILE) - len(wrong)} of {len(HOSTILE)} refused {" ".join(wrong)}', not wrong


def bombs(folder: Path) -> tuple[str, bool]:
    """Files that would become 16 GiB: no more memory than for one that is refused at its first byte."""
    peaks = {}
    for name in ('page.pth', 'bomb.pth', 'bomb.npz', 'expanded.pth'):
        file, _ = write_hostile(name, folder)
        status, output, peaks[name] = measured('tools/publish_model.py', file, folder / 'out.pth')
        assert status == 1, output
        assert name == 'page.pth' or 'would become' in output, output
    least = peaks.pop('page.pth')
    shown = ', '.join(f'{name} +{peak - least:.0f} MiB' for name, peak in peaks.items())
    return f'of {BOMB >> 30} GiB: {shown}', max(peaks.values()) < least + MEMORY_SLACK


@contextlib.contextmanager
def _served(files: dict[str, tuple[bytes, int, str]]) -> Iterator[str]:
    """Serve (body, announced length, kind) by path on this machine alone; gives the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 (the name http.server looks for)
            body, announced, kind = files[self.path]
            self.send_response(200)
            self.send_header('Content-Length', str(announced))
            self.send_header('Content-Type', kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def downloads(folder: Path) -> tuple[str, bool]:
    """A page, a file cut short and one of another hash than its name's, then the file itself."""
    keys = ('backbone.patch_embed.projection.weight', 'decode_head.conv_seg.weight')
    torch.save({'state_dict': {key: torch.rand(2, 3, 1, 1) for key in keys}}, folder / 'whole.pth')
    body = (folder / 'whole.pth').read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:8]
    page = b'<html>Please log in</html>'
    binary = 'application/octet-stream'
    files = {
        '/page.pth': (page, len(page), 'text/html'),
        '/cut.pth': (body[:500], len(body), binary),
        '/other-80ecf9dd.pth': (body, len(body), binary),
        f'/whole-{digest}.pth': (body, len(body), binary),
    }
    env = dict(TORCH_HOME=str(folder / 'home'), no_proxy='127.0.0.1', NO_PROXY='127.0.0.1')
    seen, holds = [], True
    with _served(files) as address:
        for path, said in zip(files, ('text/html', '500 of', 'begins with', ''), strict=True):
            result = run_tool('tools/publish_model.py', address + path, folder / 'out.pth', env=env)
            kept = len([file for file in (folder / 'home').rglob('*') if file.is_file()])
            good = not said
            one_line = len(result.stderr.strip().splitlines()) == 1 and said in result.stderr
            holds &= (result.returncode == 0 and kept == 1) if good else (one_line and kept == 0)
            seen.append(f'{path[1:]} {"taken" if result.returncode == 0 else "refused"}, {kept} files kept')
    return '; '.join(seen), holds


FAULTS = [
    Fault(
        'foreign.payload_everywhere',
        'one line that names it on every way in; nothing ran',
        payload_everywhere,
    ),
    Fault('foreign.hostile_files', 'each refused in one line that names it; nothing ran', hostile_files),
    Fault('foreign.bombs', f'refused before they inflate: memory + {MEMORY_SLACK} MiB at most', bombs),
    Fault('foreign.downloads', 'only the whole file of the right hash is kept and used', downloads),
]
