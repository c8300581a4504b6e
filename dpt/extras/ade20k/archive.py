"""Getting ADEChallengeData2016: download, check and unpack, each whole or not at all."""

import hashlib
import http.client
import os
import shutil
import stat
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from PIL import Image

from dpt.datasets.ade20k import URL
from dpt.extras.ade20k.release import ARCHIVE, SPLITS, compare_with_release

TIMEOUT = 60
"""Seconds without a byte before a download is given up."""
BLOCK = 1 << 20
SHA1 = '219e1696abb36c8ba3a3afe7fb2f4b4606a897c7'
"""Of the archive, as the download scripts of GluonCV, Segmenter and others expect it."""
FOLDERS = dict(zip(('training', 'validation'), SPLITS, strict=True))
MAX_BYTES = 20 << 30
"""Unpacked bytes that are never exceeded: the release takes a few GB."""

Told = Callable[[int, int | None], None]
"""Told bytes that are there and bytes that there will be, where known."""


def download(url: str, target: Path, told: Told = lambda done, total: None) -> Path:
    """Download a file, going on where an earlier try ended.

    What has arrived is kept as ``NAME.part`` until the file is complete.

    Args:
        url: http(s) address.
        target: Where it goes.
        told: Called with progress.

    Raises:
        ValueError: The server does not answer, or the connection ended early; run again to go on.
    """
    if not url.startswith(('http://', 'https://')):
        raise ValueError(f'--url {url}: an http(s) address was expected; --archive takes a file')
    part = target.with_name(f'{target.name}.part')
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(url, part, told)
    except (OSError, ValueError, http.client.HTTPException) as error:
        kept = part.stat().st_size if part.is_file() else 0
        raise ValueError(
            f'{url}: download failed ({error}); {kept:,} bytes are kept in {part}: run this again to go on, '
            'or fetch the file by other means and give it as --archive FILE'
        ) from error
    os.replace(part, target)
    return target


def _fetch(url: str, part: Path, told: Told) -> None:
    have = part.stat().st_size if part.is_file() else 0
    headers = {'User-Agent': 'dpt', **({'Range': f'bytes={have}-'} if have else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # Nothing is left to send: complete if the server's size says so, else of another file.
        if error.headers.get('Content-Range', '').rpartition('/')[2] == str(have):
            return
        part.unlink()
        _fetch(url, part, told)
        return
    with response:
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if goes_on and not response.headers.get('Content-Range', '').startswith(f'bytes {have}-'):
            raise ValueError(f'the server sent {response.headers.get("Content-Range")} of bytes {have}-')
        done = have if goes_on else 0
        length = response.headers.get('Content-Length')
        total = done + int(length) if length else None
        with part.open('ab' if goes_on else 'wb') as file:
            while block := response.read(BLOCK):
                file.write(block)
                done += len(block)
                told(done, total)
    if total is not None and done != total:
        raise ValueError(f'the connection ended after {done:,} of {total:,} bytes')


def check_hash(file: Path, expected: str, told: Told = lambda done, total: None) -> None:
    """Compare a file's SHA-1.

    Args:
        file: The file.
        expected: 40 hexadecimal digits.
        told: Called with progress.

    Raises:
        ValueError: It is another one.
    """
    digest, done, total = hashlib.sha1(usedforsecurity=False), 0, file.stat().st_size
    with file.open('rb') as content:
        while block := content.read(BLOCK):
            digest.update(block)
            done += len(block)
            told(done, total)
    if digest.hexdigest() != expected.lower():
        raise ValueError(
            f'{file} has the SHA-1 {digest.hexdigest()}, {expected} was expected: download it again from '
            f'{URL}; an archive that was packed anew is taken with --sha1 any, and its files compared'
        )


def check_archive(file: Path) -> None:
    """Tell from its list whether a file is the archive: names and counts of images and masks.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is not a zip file, of another release, incomplete, or unsafe to unpack.
    """
    if not file.is_file():
        raise FileNotFoundError(f'{file} does not exist; {ARCHIVE}.zip comes from {URL}')
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f'{file} is not a complete zip file ({error}): download it again from {URL}'
        ) from error
    for entry in entries:
        _require_safe(entry, file)
    names = {entry.filename for entry in entries}
    if any(name.split('/')[0].startswith('ADE20K_20') or name.endswith('_seg.png') for name in names):
        raise ValueError(
            f'{file} is the full ADE20K release (masks *_seg.png beside the images): the '
            f'benchmark of 150 classes is another archive, {ARCHIVE}.zip, from {URL}'
        )
    for folder, split in FOLDERS.items():
        for kind, suffix in (('images', '.jpg'), ('annotations', '.png')):
            expected = {
                f'{ARCHIVE}/{kind}/{folder}/{Path(split.name(number)).stem}{suffix}'
                for number in range(1, split.count + 1)
            }
            missing = sorted(expected - names)
            if missing:
                raise ValueError(
                    f'{file} is not {ARCHIVE}.zip: it lacks {len(missing):,} of {split.count:,} files of '
                    f'{kind}/{folder}, such as {missing[0]}'
                )
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise ValueError(f'{file} would unpack to more than {MAX_BYTES >> 30} GB: it is not {ARCHIVE}.zip')


def _require_safe(entry: zipfile.ZipInfo, file: Path) -> None:
    path = PurePosixPath(entry.filename.replace('\\', '/'))
    link = stat.S_ISLNK(entry.external_attr >> 16)
    if path.is_absolute() or '..' in path.parts or ':' in entry.filename or link:
        raise ValueError(f'{file} is not safe to unpack, it holds {entry.filename!r}: use the one from {URL}')


def unpack(file: Path, root: Path, shown: Callable[[Iterable], Iterable] = iter) -> Path:
    """Unpack the archive into ``root``; its folder has its name only when it is complete and every CRC fits.

    Args:
        file: An archive that :func:`check_archive` let pass.
        root: Folder that gets ``ADEChallengeData2016``.
        shown: Passes entries on and shows how far it is.

    Raises:
        ValueError: The folder is there already, or a file of the archive is damaged.
    """
    target = root / ARCHIVE
    if target.exists():
        raise ValueError(f'{target} exists: move it away to unpack anew, or leave --archive out to check it')
    root.mkdir(parents=True, exist_ok=True)
    partial = root / f'.{ARCHIVE}.{uuid.uuid4().hex}.partial'
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in shown(archive.infolist()):
                _require_safe(entry, file)
                archive.extract(entry, partial)
        os.replace(partial / ARCHIVE, target)
    except zipfile.BadZipFile as error:
        raise ValueError(f'{file} is damaged: {error}; download it again from {URL}') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def check_folder(folder: Path, shown: Callable[[Iterable], Iterable] = iter) -> list[str]:
    """Compare an unpacked folder with the release: masks by name, images by name and size.

    Args:
        folder: ``ADEChallengeData2016``.
        shown: Passes images on and shows how far it is.

    Returns:
        What is wrong, a line each; empty for the complete release.
    """
    wrong = []
    for name in FOLDERS:
        images = sorted((folder / 'images' / name).glob('*.jpg'))
        masks = {path.stem for path in (folder / 'annotations' / name).glob('*.png')}
        if not images:
            wrong.append(f'{name}: {folder / "images" / name} holds no image')
            continue
        without = [image.stem for image in images if image.stem not in masks]
        if without:
            wrong.append(f'{name}: {len(without)} images have no mask, the first {without[0]}')
        sizes = {image.name: _size(image) for image in shown(images)}
        broken = [image for image, size in sizes.items() if size is None]
        if broken:
            wrong.append(f'{name}: {len(broken)} images cannot be read, the first {broken[0]}')
        wrong += [f'{name}: {line}' for line in compare_with_release(sizes)]
    return wrong


def _size(image: Path) -> tuple[int, int] | None:
    try:
        with Image.open(image) as picture:
            return picture.height, picture.width
    except OSError:
        return None
