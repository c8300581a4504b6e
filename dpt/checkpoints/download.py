"""Download checkpoints into torch's cache, which keeps only complete and valid files."""

import hashlib
import http.client
import re
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch

from dpt.files import whole_file

_TIMEOUT = 60  # seconds without data before a download fails
_HASH = re.compile(r'-([0-9a-f]{8,64})(?=(?:\.pth)?\.\w+$)')
"""Prefix of the SHA-256 at the end of a file name, as in torch.hub."""
_HUB_HASH = re.compile('[0-9a-f]{40}|[0-9a-f]{64}')
_DATE = re.compile(r'(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])')


def download(url: str, name: str, read: Callable[[Path], object]) -> Path:
    """Return the cached file of an http(s) URL, downloading it first if needed.

    The file enters the cache only if it is complete, matches the hash in its name (if any) and can be read.
    Several processes may download the same file concurrently.

    Args:
        url: URL of the file.
        name: File name, with its suffix.
        read: Reads the file; raises ValueError if it is not a checkpoint.

    Raises:
        ValueError: If the download fails, the hash does not match or the file is not a checkpoint.
    """
    # Many servers name every file "model.safetensors"; a hash of the URL makes the cached name unique.
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    target = folder / f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    if target.exists():
        return target
    with whole_file(target) as file:
        partial = Path(file.name)
        kind = _fetch(url, file)
        named = _HASH.search(name)
        if named and not _DATE.fullmatch(named[1]) and not (digest := sha256(partial)).startswith(named[1]):
            raise ValueError(
                f'{url}: according to the file name, the SHA-256 begins with {named[1]}, but that of the '
                f'{partial.stat().st_size:,} bytes received begins with {digest[: len(named[1])]}; '
                'the file was deleted. Download it again, or from another source'
            )
        try:
            read(partial)
        except ValueError as error:
            cause = str(error).removeprefix(f'{partial}: ')
            raise ValueError(
                f'{url}: the downloaded file ({kind}) is not a valid checkpoint and was deleted: {cause}'
            ) from None
    return target


def download_from_hub(url: str) -> Path:
    """Return the cached safetensors of a model on Hugging Face, or their index, downloading them if needed.

    Other files in the folder of the cache, which other programs may have downloaded, have no effect.

    Args:
        url: ``hf://OWNER/NAME``, optionally with ``@REVISION``, or ``timm://NAME`` for a model of timm, such
            as ``timm://vit_small_patch14_dinov2.lvd142m``.

    Raises:
        ValueError: If huggingface_hub is missing, the download fails, the model has no safetensors, or a file
            does not match the hash under which the hub stores it.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        install = "pip install 'dense-prediction-transformers[hub]'"
        raise ValueError(f'{url} needs huggingface_hub: {install}') from None
    whole, index, shards = 'model.safetensors', 'model.safetensors.index.json', 'model-*.safetensors'
    settings = ('config.json', 'preprocessor_config.json')
    name, _, revision = url.replace('timm://', 'hf://timm/').removeprefix('hf://').partition('@')
    try:
        folder = Path(
            snapshot_download(
                name, revision=revision or None, allow_patterns=[whole, index, shards, *settings]
            )
        )
    except Exception as error:  # several packages raise it: the network, the name or a permission is missing
        cause = ' '.join(str(error).split())[:200]
        raise ValueError(
            f'{url}: download failed ({cause}); check the name and the network, or download '
            f'https://huggingface.co/{name} yourself and pass the path of its .safetensors file'
        ) from None
    found = next((folder / one for one in (whole, index) if (folder / one).is_file()), None)
    if found is None:
        raise ValueError(f'{url} has neither {whole} nor {index}: pass the path of another file of it')
    for file in [found] if found.name == whole else [found, *sorted(folder.glob(shards))]:
        stored = file.resolve()  # named after its hash: SHA-256, or that of git for small files
        if stored.name not in (sha256(stored), git_hash(stored)) and _HUB_HASH.fullmatch(stored.name):
            stored.unlink()
            raise ValueError(f'{url}: {file.name} does not match its hash and was deleted: load it again')
    return found


def _fetch(url: str, file: BinaryIO) -> str:
    """Download ``url`` into ``file`` and return the content type."""
    try:
        request = urllib.request.Request(url, headers={'User-Agent': 'dpt'})
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            shutil.copyfileobj(response, file, 1 << 20)
            file.flush()
            announced = response.headers.get('Content-Length')
            kind = response.headers.get('Content-Type') or 'unknown content type'
        received = file.tell()
        if announced is not None and received != int(announced):
            raise OSError(f'the connection ended after {received} of {announced} bytes')
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ValueError(
            f'{url}: download failed ({error}); check the URL and the network, or download the file '
            'yourself and pass its path'
        ) from error
    return kind


def git_hash(file: Path) -> str:
    """Return the SHA-1 under which git stores a file as a hexadecimal string."""
    digest = hashlib.sha1(f'blob {file.stat().st_size}\0'.encode(), usedforsecurity=False)
    with file.open('rb') as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256(*files: Path) -> str:
    """Return the SHA-256 of the concatenated files as a hexadecimal string."""
    digest = hashlib.sha256()
    for file in files:
        with file.open('rb') as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
