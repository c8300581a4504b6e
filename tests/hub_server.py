"""A stand-in for Hugging Face on this machine, with repositories in memory."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = 'c' * 40


class Hub(ThreadingHTTPServer):
    """The repositories by name, each with the content of its files by path.

    ``cut`` files are sent to half of their announced length, ``altered`` ones with another last byte.
    """

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.stored: dict[str, bytes] = {}  # by SHA-256
        self.cut: set[str] = set()
        self.altered: set[str] = set()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_address[1]}'


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()
    Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def is_large(path: str) -> bool:
    return path.endswith('.safetensors')


def described(path: str, content: bytes) -> dict:
    """What the hub says about a file."""
    sha1 = hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()
    entry = dict(type='file', path=path, size=len(content), oid=sha1)
    if is_large(path):
        oid = hashlib.sha256(content).hexdigest()
        entry['lfs'] = dict(oid=oid, sha256=oid, size=len(content), pointerSize=134)
    return entry


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments: object) -> None:
        pass

    def answer(self, content: object = None, status: int = 200, **headers: object) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {'Content-Length': len(body), 'X-Repo-Commit': COMMIT, **headers}.items():
            self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get('Content-Length') or 0))

    def do_HEAD(self) -> None:  # noqa: N802
        self.do_GET()

    def do_GET(self) -> None:  # noqa: N802
        if match := re.match(r'/api/models/([^/]+/[^/]+)/(revision|tree)/', self.path):
            files = self.server.repositories.get(match[1])
            if files is None:
                self.answer(dict(error='Repository not found'), 404, X_Error_Code='RepoNotFound')
            elif match[2] == 'tree':
                self.answer([described(path, content) for path, content in files.items()])
            else:
                names = [dict(rfilename=path) for path in files]
                self.answer(dict(id=match[1], sha=COMMIT, siblings=names, private=False))
            return
        match = re.match(r'/([^/]+/[^/]+)/resolve/[^/]+/([^?]+)', self.path)
        assert match, self.path
        self.send_file(match[2], self.server.repositories[match[1]].get(match[2]))

    def send_file(self, path: str, content: bytes | None) -> None:
        if content is None:
            self.answer(dict(error='Entry not found'), 404, X_Error_Code='EntryNotFound')
            return
        entry = described(path, content)
        etag = entry.get('lfs', entry)['oid']
        if path in self.server.altered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        headers = dict(ETag=f'"{etag}"', X_Linked_Etag=f'"{etag}"', X_Linked_Size=len(content))
        if path in self.server.cut and self.command == 'GET':
            self.send_response(200)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.answer(content, **headers)

    def do_POST(self) -> None:  # noqa: N802
        content = self.body()
        if self.path == '/api/repos/create':
            wanted = json.loads(content)
            name = f'{wanted["organization"]}/{wanted["name"]}'
            self.server.repositories.setdefault(name, {})
            self.answer(dict(url=f'{self.server.url}/{name}'))
        elif '/preupload/' in self.path:
            files = [file['path'] for file in json.loads(content)['files']]
            modes = {path: 'lfs' if is_large(path) else 'regular' for path in files}
            self.answer(
                dict(files=[dict(path=p, uploadMode=m, shouldIgnore=False) for p, m in modes.items()])
            )
        elif self.path.endswith('/info/lfs/objects/batch'):
            objects = json.loads(content)['objects']
            for one in objects:
                one['actions'] = dict(upload=dict(href=f'{self.server.url}/lfs/{one["oid"]}'))
            self.answer(dict(transfer='basic', objects=objects))
        elif '/paths-info/' in self.path:
            name = '/'.join(self.path.split('/')[3:5])
            stored = self.server.repositories[name]
            self.answer([described(path, one) for path, one in stored.items() if is_large(path)])
        elif '/commit/' in self.path:
            self.commit('/'.join(self.path.split('/')[3:5]), content)
        else:
            self.answer(dict(warnings=[], errors=[]))  # validation of the card

    def commit(self, name: str, content: bytes) -> None:
        for line in content.splitlines():
            entry = json.loads(line)
            value = entry['value']
            if entry['key'] == 'lfsFile':
                self.server.repositories[name][value['path']] = self.server.stored[value['oid']]
            elif entry['key'] == 'file':
                self.server.repositories[name][value['path']] = base64.b64decode(value['content'])
        self.answer(dict(commitOid=COMMIT, commitUrl=f'{self.server.url}/{name}/commit/{COMMIT}'))

    def do_PUT(self) -> None:  # noqa: N802
        content = self.body()
        self.server.stored[self.path.split('/')[-1]] = content
        self.answer()
