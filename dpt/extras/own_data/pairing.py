"""Which annotation belongs to which image, told by their names."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
LOSSLESS = ('.png', '.bmp', '.tif', '.tiff')


@dataclass
class Pairs:
    """Images and their annotations.

    Args:
        images: Folder of the images.
        masks: Folder of the annotations.
        found: (image, annotation) relative to the folders, sorted.
        mask_end: What annotations end in after the image's name without its suffix.
        image_suffix: What all images end in; empty where they differ.
        notes: Files left out, a line each.
    """

    images: Path
    masks: Path
    found: list[tuple[str, str]]
    mask_end: str
    image_suffix: str
    notes: list[str] = field(default_factory=list)


def list_files(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the files of a folder and its sub-folders that have one of the suffixes, in any case; sorted.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder')
    allowed = tuple(suffixes)
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob('*')
        if path.suffix.lower() in allowed and path.is_file() and not path.name.startswith('.')
    )


def stem(name: str) -> str:
    """Return a relative path without its last suffix."""
    return name[: len(name) - len(Path(name).suffix)]


def pair(images: Path, masks: Path) -> Pairs:
    """Find the annotation of each image: the same name, or the same with an end such as ``_mask``.

    Args:
        images: Folder of images.
        masks: Folder of masks, or of JSON files of labelme; it may be the same one.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: Nothing fits, or one image has two files.
    """
    pictures = list_files(images, IMAGE_SUFFIXES)
    annotations = list_files(masks, ('.json',)) or list_files(masks, LOSSLESS)
    if images.resolve() == masks.resolve():
        pictures = [name for name in pictures if name not in set(annotations)]
    for what, folder, names in (('image', images, pictures), ('annotation', masks, annotations)):
        if not names:
            kinds = IMAGE_SUFFIXES if what == 'image' else (*LOSSLESS, '.json')
            lossy = list_files(folder, ('.jpg', '.jpeg')) if what == 'annotation' else []
            hint = (
                '; JPEG files are no masks, their compression changes labels and colours: save them as PNG'
                if lossy
                else ''
            )
            raise ValueError(
                f'{folder} holds no {what}: files that end in {", ".join(kinds)} were expected{hint}'
            )
    known = _by_stem(pictures, images)
    ends = _common_ends(known, annotations)
    if not ends:
        raise ValueError(
            f'no file of {masks} is named as an image of {images}: {annotations[0]} beside {pictures[0]}; '
            "the annotation of a/b.jpg is a/b.png, a/b_END.png with one END for all, or labelme's a/b.json"
        )
    (end, _), others = ends[0], ends[1:]
    present = set(annotations)
    found = [(known[name], name + end) for name in sorted(known) if name + end in present]
    suffixes = {Path(image).suffix for image, _ in found}
    pairs = Pairs(images, masks, found, end, suffixes.pop() if len(suffixes) == 1 else '')
    without = [image for name, image in known.items() if name + end not in present]
    if without:
        pairs.notes.append(f'{len(without)} images without annotation are left out, such as {without[0]}')
    unused = sorted(present - {mask for _, mask in found})
    if unused:
        pairs.notes.append(f'{len(unused)} annotations are not used, such as {unused[0]}')
    if others and others[0][1] == len(found):
        pairs.notes.append(f'annotations end in {end}, and as many in {others[0][0]}: the first are taken')
    return pairs


def _by_stem(pictures: list[str], folder: Path) -> dict[str, str]:
    twice = [name for name, count in Counter(map(stem, pictures)).items() if count > 1]
    if twice:
        both = ' and '.join(name for name in pictures if stem(name) == twice[0])
        raise ValueError(f'{len(twice)} images of {folder} have one name twice, such as {both}: keep one')
    return {stem(name): name for name in pictures}


def _common_ends(known: dict[str, str], annotations: list[str]) -> list[tuple[str, int]]:
    """What follows the names of images in names of annotations, by how often it does so."""
    ends: Counter = Counter()
    for name in annotations:
        bare = stem(name)
        for cut in range(len(bare), 0, -1):
            if bare[:cut] in known:
                ends[name[cut:]] += 1
                break
    return sorted(ends.items(), key=lambda item: (-item[1], len(item[0]), item[0]))
