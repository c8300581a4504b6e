"""A split that more images do not change: it follows from each name alone."""

import hashlib
from collections.abc import Sequence

from dpt.extras.own_data.pairing import stem

FOLDERS = {
    **dict.fromkeys(('train', 'training'), 'training'),
    **dict.fromkeys(('val', 'valid', 'validation'), 'validation'),
    **dict.fromkeys(('test', 'testing'), 'test'),
}
"""Names of folders that say which split their images belong to."""


def place(name: str, seed: int) -> float:
    """Return where an image lies between 0 and 1, by a hash of its name without suffix."""
    digest = hashlib.sha256(f'{seed}/{stem(name)}'.encode()).digest()
    return int.from_bytes(digest[:8], 'big') / 2**64


def split(images: Sequence[str], val_share: float, seed: int) -> dict[str, list[str]]:
    """Split images, by their folders where these are called train and val, else by a hash of their names.

    Where the hash leaves nothing for validation, the image next to it is taken.

    Args:
        images: Relative paths.
        val_share: Part that is validated, between 0 and 1.
        seed: Another gives another split.

    Returns:
        Sorted images of 'training', 'validation' and, if a folder says so, 'test'.

    Raises:
        ValueError: Nothing is left to train on, or the share is none.
    """
    if not 0 < val_share < 1:
        raise ValueError(f'--val-share {val_share}: a number between 0 and 1 was expected')
    folders = [FOLDERS.get(name.split('/')[0].lower()) for name in images]
    if all(folders) and {'training', 'validation'} <= set(folders):
        named = ('training', 'validation', 'test')
        lists = {one: sorted(i for i, f in zip(images, folders, strict=True) if f == one) for one in named}
        return {one: names for one, names in lists.items() if names}
    if len(images) < 2:
        raise ValueError(
            f'{len(images)} images with annotations: at least 2 are needed, 1 of them to validate'
        )
    ordered = sorted(images, key=lambda name: (place(name, seed), name))
    count = max(sum(place(name, seed) < val_share for name in ordered), 1)
    if count == len(ordered):
        raise ValueError(f'--val-share {val_share} leaves nothing of {len(ordered)} images to train on')
    return {'training': sorted(ordered[count:]), 'validation': sorted(ordered[:count])}
