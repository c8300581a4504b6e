"""Downloads checkpoints into torch's cache, where a file is only if it is complete and valid."""

import hashlib
import http.client
import re
import shutil
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

import torch

_TIMEOUT = 60  # seconds without a byte before a download is given up
_HASH = re.compile(r'-([0-9a-f]{8,64})(?=(?:\.pth)?\.\w+$)')
"""The beginning of the SHA-256 at the end of a name, as torch.hub and all release pages have it."""
_DATE = re.compile(r'(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])')


def download(url: str, name: str, read: Callable[[Path], object]) -> Path:
    """Return the cached file of an http(s) address; download it if it is not there.

    The file gets its name in the cache only when it has arrived in full, fits the hash in its name, if there
    is one, and can be read. Several processes may download it at once.

    Args:
        url: the address.
        name: name of the file, with its suffix.
        read: reads it, and raises ValueError where it is not a checkpoint.

    Raises:
        ValueError: it cannot be downloaded, or is not the checkpoint that its name says.
    """
    # Many servers call every file "model.safetensors": a hash of the address keeps them apart.
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    target = folder / f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'{target.name}.{uuid.uuid4().hex}.partial')
    try:
        kind = _fetch(url, partial)
        named = _HASH.search(name)
        if named and not _DATE.fullmatch(named[1]) and not (digest := sha256(partial)).startswith(named[1]):
            raise ValueError(
                f'{url}: the name says that the SHA-256 begins with {named[1]}, and that of the '
                f'{partial.stat().st_size:,} bytes received begins with {digest[: len(named[1])]}: it is '
                'another file, and was not kept. Fetch it again, or from another source'
            )
        try:
            read(partial)
        except ValueError as error:
            cause = str(error).removeprefix(f'{partial}: ')
            raise ValueError(
                f'{url}: what the server sent ({kind}) is not a usable checkpoint, and was not kept: {cause}'
            ) from None
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _fetch(url: str, partial: Path) -> str:
    """Write what the server sends to ``partial``; return its content type."""
    try:
        request = urllib.request.Request(url, headers={'User-Agent': 'dpt'})
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response, partial.open('xb') as file:
            shutil.copyfileobj(response, file, 1 << 20)
            announced = response.headers.get('Content-Length')
            kind = response.headers.get('Content-Type') or 'of unknown type'
        received = partial.stat().st_size
        if announced is not None and received != int(announced):
            raise OSError(f'the connection ended after {received} of {announced} bytes')
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ValueError(
            f'{url}: download failed ({error}); check the address and the network, or fetch the file '
            'by other means and give its path'
        ) from error
    return kind


def sha256(*files: Path) -> str:
    """SHA-256 of a file, or of several one after the other, in hexadecimal digits."""
    digest = hashlib.sha256()
    for file in files:
        with file.open('rb') as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
