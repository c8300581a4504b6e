"""Download, check and unpack the ADEChallengeData2016 archive, and verify the folder."""

import hashlib
import http.client
import os
import re
import shutil
import stat
import urllib.error
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from dpt.datasets.ade20k import ARCHIVE, URL

TIMEOUT = 60
"""Seconds without data before a download fails."""
BYTES = 1 << 20
SHA1 = '219e1696abb36c8ba3a3afe7fb2f4b4606a897c7'
"""SHA-1 of the archive, as in the download scripts of GluonCV, Segmenter and others."""
MAX_BYTES = 20 << 30
"""Maximum unpacked size; the release takes a few GB."""
NAME = re.compile(r'ADE_(?:train|val)_(\d{8})\.jpg')
BLOCK = 1000
"""Number of images per checksum."""

Progress = Callable[[int, int | None], object]
"""Called with the number of bytes done and, if known, the total."""


@dataclass(frozen=True)
class Split:
    """The images of a split, numbered from 1.

    Args:
        prefix: Prefix of the file names.
        count: Number of images.
        checksums: CRC-32 of each block of ``BLOCK`` images, over the sorted lines ``NAME WIDTHxHEIGHT``.
    """

    prefix: str
    count: int
    checksums: tuple[str, ...]

    def name(self, number: int) -> str:
        """Return the file name of an image."""
        return f'{self.prefix}{number:08d}.jpg'


# From training.odgt and validation.odgt, which the authors of the release publish with their code.
_TRAINING = """\
9ab7593d b158c596 afb9b385 288c379e ee8ebd4f 4edfad58 7333af06 787cb5da 96140fc1 ce700ede 6452489a
c2e69840 8a34ee0a 4887eb94 aebe5785 d2ecdd04 a21fe12e 610abf50 3dfbc30a a56eda25 da46b999"""
SPLITS = {
    'training': Split('ADE_train_', 20210, tuple(_TRAINING.split())),
    'validation': Split('ADE_val_', 2000, ('11de820c', '9e8e14eb')),
}


def download(url: str, target: Path, progress: Progress = lambda done, total: None) -> Path:
    """Download a file. An incomplete download is kept as ``NAME.part`` and resumed by the next call.

    Raises:
        ValueError: If the server does not answer, or the connection ends early.
    """
    if not url.startswith(('http://', 'https://')):
        raise ValueError(f'--url {url}: expected an http(s) URL; use --archive for a file')
    part = target.with_name(f'{target.name}.part')
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(url, part, progress)
    except (OSError, ValueError, http.client.HTTPException) as error:
        kept = part.stat().st_size if part.is_file() else 0
        raise ValueError(
            f'{url}: download failed ({error}); {kept:,} bytes are kept in {part}. Run this again to resume, '
            'or download the file yourself and pass --archive FILE'
        ) from error
    os.replace(part, target)
    return target


def _fetch(url: str, part: Path, progress: Progress) -> None:
    have = part.stat().st_size if part.is_file() else 0
    headers = {'User-Agent': 'dpt', **({'Range': f'bytes={have}-'} if have else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # The part is complete if it is as large as the server's file; otherwise it belongs to another file.
        if error.headers.get('Content-Range', '').rpartition('/')[2] != str(have):
            part.unlink()
            _fetch(url, part, progress)
        return
    with response:
        continued = response.status == http.HTTPStatus.PARTIAL_CONTENT
        content_range = response.headers.get('Content-Range', '')
        if continued and not content_range.startswith(f'bytes {have}-'):
            raise ValueError(f'the server sent {content_range} instead of bytes {have}-')
        done = have if continued else 0
        length = response.headers.get('Content-Length')
        total = done + int(length) if length else None
        with part.open('ab' if continued else 'wb') as file:
            while block := response.read(BYTES):
                file.write(block)
                done += len(block)
                progress(done, total)
    if total is not None and done != total:
        raise ValueError(f'the connection ended after {done:,} of {total:,} bytes')


def check_hash(file: Path, expected: str, progress: Progress = lambda done, total: None) -> None:
    """Raise ValueError if the SHA-1 of a file is not ``expected`` (40 hexadecimal digits)."""
    digest, done, total = hashlib.sha1(usedforsecurity=False), 0, file.stat().st_size
    with file.open('rb') as content:
        while block := content.read(BYTES):
            digest.update(block)
            done += len(block)
            progress(done, total)
    if digest.hexdigest() != expected.lower():
        raise ValueError(
            f'{file} has the SHA-1 {digest.hexdigest()}, expected {expected}: download it again from '
            f'{URL}; to accept a repacked archive and check only its files, pass --sha1 any'
        )


def check_archive(file: Path) -> None:
    """Check that a file is the archive by its list of entries.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a zip file, belongs to another release, is incomplete, or is unsafe to
            unpack.
    """
    if not file.is_file():
        raise FileNotFoundError(f'{file} does not exist; download {ARCHIVE}.zip from {URL}')
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        message = f'{file} is not a complete zip file ({error}): download it again from {URL}'
        raise ValueError(message) from error
    for entry in entries:
        _require_safe(entry, file)
    names = {entry.filename for entry in entries}
    if any(name.startswith('ADE20K_20') or name.endswith('_seg.png') for name in names):
        raise ValueError(
            f'{file} is the full ADE20K release (masks *_seg.png beside the images); the '
            f'benchmark with 150 classes is {ARCHIVE}.zip from {URL}'
        )
    for folder, split in SPLITS.items():
        for kind, suffix in (('images', '.jpg'), ('annotations', '.png')):
            stems = (Path(split.name(number)).stem for number in range(1, split.count + 1))
            missing = sorted({f'{ARCHIVE}/{kind}/{folder}/{stem}{suffix}' for stem in stems} - names)
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
        raise ValueError(
            f'{file} is not safe to unpack because it contains {entry.filename!r}: use the archive from {URL}'
        )


def unpack(file: Path, root: Path, track: Callable[[Iterable], Iterable] = iter) -> Path:
    """Unpack a checked archive into ``root``, either completely with valid CRCs or not at all.

    Args:
        file: The archive.
        root: Parent folder of ``ADEChallengeData2016``.
        track: Wraps the entries to show progress.

    Raises:
        ValueError: If the folder exists, or a file of the archive is damaged.
    """
    target = root / ARCHIVE
    if target.exists():
        raise ValueError(f'{target} exists: move it to unpack again, or omit --archive to only check it')
    root.mkdir(parents=True, exist_ok=True)
    partial = root / f'.{ARCHIVE}.{uuid.uuid4().hex}.partial'
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in track(archive.infolist()):
                _require_safe(entry, file)
                archive.extract(entry, partial)
        os.replace(partial / ARCHIVE, target)
    except zipfile.BadZipFile as error:
        raise ValueError(f'{file} is damaged: {error}; download it again from {URL}') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def check_folder(folder: Path, track: Callable[[Iterable], Iterable] = iter) -> list[str]:
    """Compare an unpacked folder with the release: masks by name, images by name and size.

    Args:
        folder: ``ADEChallengeData2016``.
        track: Wraps the images to show progress.

    Returns:
        One line per problem.
    """
    problems = []
    for name in SPLITS:
        images = sorted((folder / 'images' / name).glob('*.jpg'))
        masks = {path.stem for path in (folder / 'annotations' / name).glob('*.png')}
        if not images:
            problems.append(f'{name}: {folder / "images" / name} contains no images')
            continue
        without = [image.stem for image in images if image.stem not in masks]
        if without:
            problems.append(f'{name}: {len(without)} images have no mask, the first {without[0]}')
        sizes = {image.name: _image_size(image) for image in track(images)}
        broken = [image for image, size in sizes.items() if size is None]
        if broken:
            problems.append(f'{name}: {len(broken)} images cannot be read, the first {broken[0]}')
        problems += [f'{name}: {line}' for line in compare_with_release(sizes)]
    return problems


def _image_size(image: Path) -> tuple[int, int] | None:
    try:
        with Image.open(image) as picture:
            return picture.height, picture.width
    except OSError:
        return None


def compare_with_release(sizes: Mapping[str, tuple[int, int] | None]) -> list[str]:
    """Compare the names and sizes of the images of a split with the release.

    Args:
        sizes: (height, width) by file name without folder; None for an image that cannot be read.

    Returns:
        One line per problem.
    """
    strange = [name for name in sizes if not NAME.fullmatch(name)]
    if strange:
        return [
            f'{len(strange)} image names are not in {ARCHIVE}, such as {strange[0]}; is this another archive?'
        ]
    splits = [one for one in SPLITS.values() if all(name.startswith(one.prefix) for name in sizes)]
    if not splits:
        return ['the folder mixes training and validation images']
    split = splits[0]
    names = [split.name(number) for number in range(1, split.count + 1)]
    missing, extra = sorted(set(names) - set(sizes)), sorted(set(sizes) - set(names))
    problems = []
    if missing:
        problems.append(f'{len(missing)} of {split.count:,} images are missing, the first {missing[0]}')
    if extra:
        problems.append(
            f'{len(extra)} images more than the {split.count:,} of {ARCHIVE}, the first {extra[0]}; '
            'this is the full ADE20K release, which is the wrong archive'
        )
    for start, expected in zip(range(0, split.count, BLOCK), split.checksums, strict=True):
        block = names[start : start + BLOCK]
        known = [(name, size) for name in block if (size := sizes.get(name)) is not None]
        if len(known) == len(block) and checksum(known) != expected:
            problems.append(
                f'sizes of {block[0]} to {block[-1]} differ from {ARCHIVE}: resized images or another archive'
            )
    return problems


def checksum(sizes: Iterable[tuple[str, tuple[int, int]]]) -> str:
    """Return the checksum of a block of (name, (height, width)) pairs."""
    lines = [f'{name} {width}x{height}\n' for name, (height, width) in sizes]
    return f'{zlib.crc32("".join(lines).encode()):08x}'
