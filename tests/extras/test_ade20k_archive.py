"""Download, check, unpack and verify ADE20K, with a small archive and a server on this machine."""

import functools
import hashlib
import http.server
import io
import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from dpt.extras import ade20k
from dpt.extras.ade20k import (
    ARCHIVE,
    Split,
    check_archive,
    check_folder,
    checksum,
    compare_with_release,
    download,
    unpack,
)

TOOL = 'tools/prepare_ade20k.py'
SIZE = (5, 7)  # (height, width)


@pytest.fixture
def _small_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release of 3 and 2 images."""
    splits = {}
    for name, prefix, count in (('training', 'ADE_train_', 3), ('validation', 'ADE_val_', 2)):
        names = [f'{prefix}{number:08d}.jpg' for number in range(1, count + 1)]
        splits[name] = Split(prefix, count, (checksum((image, SIZE) for image in names),))
    monkeypatch.setattr(ade20k, 'SPLITS', splits)


def picture(suffix: str, size: tuple[int, int] = SIZE[::-1]) -> bytes:
    file = io.BytesIO()
    Image.new('RGB' if suffix == '.jpg' else 'L', size).save(file, 'JPEG' if suffix == '.jpg' else 'PNG')
    return file.getvalue()


def contents() -> dict[str, bytes]:
    found = {f'{ARCHIVE}/sceneCategories.txt': b'ADE_train_00000001 street\n'}
    for folder, split in ade20k.SPLITS.items():
        for number in range(1, split.count + 1):
            stem = split.name(number)[:-4]
            for kind, suffix in (('images', '.jpg'), ('annotations', '.png')):
                found[f'{ARCHIVE}/{kind}/{folder}/{stem}{suffix}'] = picture(suffix)
    return found


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable]:
    """Serve a file at an address; ``ranges`` says whether parts can be asked for, ``cut`` ends it early."""
    servers = []

    def start(content: bytes, *, ranges: bool = True, cut: int | None = None):
        class Handler(http.server.BaseHTTPRequestHandler):
            asked: list = []
            limit = cut

            def do_GET(self) -> None:  # noqa: N802
                wanted = self.headers.get('Range')
                self.asked.append(wanted)
                first = int(wanted[len('bytes=') : -1]) if wanted and ranges else 0
                if first >= len(content):
                    self.send_response(416)
                    self.send_header('Content-Range', f'bytes */{len(content)}')
                    self.end_headers()
                    return
                self.send_response(206 if wanted and ranges else 200)
                if wanted and ranges:
                    self.send_header('Content-Range', f'bytes {first}-{len(content) - 1}/{len(content)}')
                self.send_header('Content-Length', str(len(content) - first))
                self.end_headers()
                self.wfile.write(content[first : Handler.limit])

            def log_message(self, *_) -> None:
                pass

        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        servers.append(server)
        threading.Thread(target=functools.partial(server.serve_forever, 0.01), daemon=True).start()
        return f'http://127.0.0.1:{server.server_port}/{ARCHIVE}.zip', Handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize('ranges', [True, False])
def test_an_interrupted_download_continues(serve, tmp_path: Path, ranges: bool) -> None:
    content, target = bytes(range(256)) * 40, tmp_path / 'new' / 'a.zip'
    url, handler = serve(content, ranges=ranges, cut=4000)
    with pytest.raises(ValueError, match='4,000 bytes are kept in .*a.zip.part. Run this again'):
        download(url, target)
    assert not target.exists()
    handler.limit = None
    told = []
    download(url, target, lambda done, total: told.append((done, total)))
    assert target.read_bytes() == content
    assert handler.asked == [None, 'bytes=4000-']
    assert told[-1] == (len(content), len(content))
    assert [path.name for path in target.parent.iterdir()] == ['a.zip']


def test_a_complete_or_too_long_part_is_handled(serve, tmp_path: Path) -> None:
    url, handler = serve(b'x' * 100)
    for kept in (b'x' * 100, b'y' * 200):
        (tmp_path / 'a.part').write_bytes(kept)
        assert download(url, tmp_path / 'a').read_bytes() == b'x' * 100
    assert handler.asked == ['bytes=100-', 'bytes=200-', None]


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='download failed .* pass --archive FILE'):
        download('http://127.0.0.1:9/a.zip', tmp_path / 'a.zip')


@pytest.mark.usefixtures('_small_release')
def test_the_tool_downloads_unpacks_and_verifies(serve, tool_main, tmp_path: Path, capsys) -> None:
    archive = make_zip(tmp_path / 'served.zip', contents())
    url, handler = serve(archive.read_bytes())

    run = functools.partial(tool_main(TOOL), '--root', tmp_path / 'ade')
    assert run('--url', url) == 1
    told = capsys.readouterr().err
    assert f'expected {ade20k.SHA1}' in told
    assert '--sha1 any' in told
    assert not (tmp_path / 'ade' / ARCHIVE).exists()
    sha1 = hashlib.sha1(archive.read_bytes()).hexdigest()
    assert run('--sha1', sha1.upper()) == 0  # what was fetched is still there
    assert 'complete, 3 training and 2 validation images' in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / 'ade').iterdir())
    assert names == [ARCHIVE, f'{ARCHIVE}.zip']
    assert run('--url', url) == 0  # verified, not downloaded again
    assert len(handler.asked) == 1
    image = tmp_path / 'ade' / ARCHIVE / 'images' / 'validation' / 'ADE_val_00000002.jpg'
    image.write_bytes(picture('.jpg', (70, 50)))
    assert run() == 1
    assert 'validation: sizes of ADE_val_00000001.jpg to' in capsys.readouterr().out
    image.unlink()
    assert run() == 1
    assert '1 of 2 images are missing' in capsys.readouterr().out
    shutil.rmtree(tmp_path / 'ade' / ARCHIVE)
    assert run('--archive', archive, '--sha1', 'any') == 0
    assert run('--archive', tmp_path / 'nowhere.zip') == 0  # the folder is there


def test_a_web_page_instead_of_the_archive_is_refused(serve, tool_main, tmp_path: Path, capsys) -> None:
    url, _ = serve(b'<html>log in first</html>')
    assert tool_main(TOOL)('--root', tmp_path / 'ade', '--url', url) == 1
    error = capsys.readouterr().err
    assert 'is not a complete zip file' in error
    assert f'move {tmp_path / "ade" / f"{ARCHIVE}.zip"} away' in error


@pytest.mark.usefixtures('_small_release')
def test_other_archives_are_refused(tmp_path: Path) -> None:
    full = make_zip(
        tmp_path / 'full.zip', {'ADE20K_2021_17_01/images/ADE/training/a/ADE_train_00000001_seg.png': b''}
    )
    with pytest.raises(ValueError, match='is the full ADE20K release .*; the benchmark'):
        check_archive(full)
    files = contents()
    del files[f'{ARCHIVE}/annotations/training/ADE_train_00000002.png']
    with pytest.raises(
        ValueError, match='lacks 1 of 3 files of annotations/training, such as .*00000002.png'
    ):
        check_archive(make_zip(tmp_path / 'partial.zip', files))


@pytest.mark.usefixtures('_small_release')
@pytest.mark.parametrize('name', ['../evil.txt', '/evil.txt', f'{ARCHIVE}/../../evil.txt', 'C:/evil.txt'])
def test_entries_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / 'a' / 'evil.zip', {**contents(), name: b'evil'})
    for step in (check_archive, lambda file: unpack(file, tmp_path / 'a' / 'b')):
        with pytest.raises(ValueError, match='not safe to unpack'):
            step(archive)
    assert not list(tmp_path.rglob('evil.txt'))
    assert not list((tmp_path / 'a' / 'b').iterdir())


@pytest.mark.usefixtures('_small_release')
def test_a_damaged_archive_leaves_no_folder(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / 'a.zip', contents())
    content = bytearray(archive.read_bytes())
    content[content.index(b'\x89PNG') + 20] ^= 1
    archive.write_bytes(content)
    check_archive(archive)
    with pytest.raises(ValueError, match='is damaged: .*CRC'):
        unpack(archive, tmp_path / 'ade')
    assert not list((tmp_path / 'ade').iterdir())


@pytest.mark.usefixtures('_small_release')
def test_empty_folders_and_missing_masks_are_reported(tmp_path: Path) -> None:
    assert len(check_folder(tmp_path)) == 2
    folder = unpack(make_zip(tmp_path / 'a.zip', contents()), tmp_path)
    assert check_folder(folder) == []
    (folder / 'annotations' / 'training' / 'ADE_train_00000003.png').unlink()
    assert check_folder(folder) == ['training: 1 images have no mask, the first ADE_train_00000003']
    with pytest.raises(ValueError, match='exists: move it to unpack again'):
        unpack(tmp_path / 'a.zip', tmp_path)


# The lists of the release's authors


@pytest.fixture(scope='module', params=['training', 'validation'])
def listed(request, ade_sample_root: Path) -> dict[str, tuple[int, int]]:
    """(height, width) by name."""
    lines = (ade_sample_root / f'{request.param}.odgt').read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {row['fpath_img'].rsplit('/', 1)[1]: (row['height'], row['width']) for row in rows}


def test_a_complete_split_has_no_problem(listed) -> None:
    assert compare_with_release(listed) == []
    assert compare_with_release(dict(reversed(listed.items()))) == []
    assert compare_with_release({**listed, min(listed): None}) == []  # unreadable, not resized


def test_missing_extra_and_resized_images_are_reported(listed) -> None:
    names = sorted(listed)
    partial = {name: size for name, size in listed.items() if name not in (names[1], names[1500])}
    (line,) = compare_with_release(partial)
    assert line == f'2 of {len(names):,} images are missing, the first {names[1]}'
    height, width = listed[names[1200]]
    for size in ((width + 1, height), (height, width + 1), (2 * height, 2 * width)):
        (line,) = compare_with_release({**listed, names[1200]: size})
        assert line.startswith(f'sizes of {names[1000]} to {names[1999]} differ')
    (line,) = compare_with_release({**listed, names[0].replace('00000001', '00099999'): (4, 4)})
    assert 'full ADE20K release, which is the wrong archive' in line


def test_other_names_and_mixed_splits_are_reported() -> None:
    assert (
        'image names are not in ADEChallengeData2016, such as a.jpg'
        in compare_with_release({'a.jpg': (4, 4)})[0]
    )
    mixed = {split.name(1): (4, 4) for split in ade20k.SPLITS.values()}
    assert compare_with_release(mixed) == ['the folder mixes training and validation images']
