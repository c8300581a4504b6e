"""Match a user's images with their annotations, and read annotations of any kind as one integer per pixel."""

import base64
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from dpt.datasets.bad_sample import DECODER_ERRORS, BadSampleError
from dpt.datasets.files import list_files as all_files
from dpt.datasets.text import written_alike
from dpt.datasets.transforms import LoadAnnotations
from dpt.extras.files import IMAGE_SUFFIXES

LOSSLESS = ('.png', '.bmp', '.tif', '.tiff')
INDEX_MODES = ('1', 'L', 'I', 'I;16', 'P')
COLOUR_MODES = ('RGB', 'RGBA')
BACKGROUND = 'background'
AREAS = ('polygon', 'rectangle', 'circle', 'mask')
"""labelme shapes that cover an area; others, such as lines and points, are skipped."""

_IMAGE_END = re.compile(r'[^a-z]?(im|img|image|rgb|photo|picture)\.\w+', re.IGNORECASE)

Colour = tuple[int, int, int]


@dataclass
class Pairs:
    """Images and their annotations.

    Args:
        images: Folder of the images.
        masks: Folder of the annotations.
        found: Sorted (image, annotation) pairs, relative to the folders.
        mask_end: Ending of the annotation names, in place of ``image_suffix``.
        image_suffix: Ending of all image names, such as ``.jpg`` or ``_img.jpg``; empty if the suffixes
            differ.
        notes: One line for each group of skipped files.
    """

    images: Path
    masks: Path
    found: list[tuple[str, str]]
    mask_end: str = ''
    image_suffix: str = ''
    notes: list[str] = field(default_factory=list)


def list_files(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the sorted files in a folder and its subfolders with one of the suffixes, ignoring case.

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder')
    return [name for name in all_files(str(folder)) if Path(name).suffix.lower() in suffixes]


def stem(name: str) -> str:
    """Return a relative path without its last suffix."""
    return name[: len(name) - len(Path(name).suffix)]


def pair(
    images: Path,
    masks: Path,
    img_suffix: str = '',
    seg_map_suffix: str = '',
    suffixes: Sequence[str] = (*LOSSLESS, '.json'),
) -> Pairs:
    """Find the annotation of each image.

    The names of images and annotations may differ in one ending each: ``a.jpg`` and ``a.png`` or
    ``a_mask.png``, ``a_img.jpg`` and ``a_gt.png``, or Cityscapes' ``a_leftImg8bit.png`` and
    ``a_gtFine_labelIds.png``.

    Args:
        images: Folder of images.
        masks: Folder of masks, or of labelme JSON files; may be the folder of images.
        img_suffix: Ending of the image names; empty finds it.
        seg_map_suffix: Ending of the annotation names; empty finds it.
        suffixes: Suffixes of annotations.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If nothing matches, several endings match equally well, or two images have the same name.
    """
    pictures, annotations = _candidates(images, masks, img_suffix, seg_map_suffix, suffixes)
    known, img_end, end = _match(images, masks, pictures, annotations, img_suffix, seg_map_suffix)
    present = set(annotations)
    found = [(known[name], name + end) for name in sorted(known) if name + end in present]
    pairs = Pairs(images, masks, found, end, img_end or _shared_suffix(found))
    if img_end and images.resolve() != masks.resolve():
        others = [name for name in list_files(images, IMAGE_SUFFIXES) if not name.endswith(img_end)]
        if others:
            pairs.notes.append(f'skipped {len(others)} images not ending in {img_end}, such as {others[0]}')
    without = [image for name, image in known.items() if name + end not in present]
    unused = sorted(present - {mask for _, mask in found})
    if without:
        hint = _invisible(without, unused)
        pairs.notes.append(f'skipped {len(without)} images without annotation, such as {without[0]}{hint}')
    if unused:
        pairs.notes.append(f'{len(unused)} annotations are not used, such as {unused[0]}')
    return pairs


def _candidates(
    images: Path, masks: Path, img_suffix: str, seg_map_suffix: str, suffixes: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the names of the images and of the annotations; raise ValueError if there are none."""
    pictures = list_files(images, IMAGE_SUFFIXES)
    jsons = list_files(masks, ('.json',)) if '.json' in suffixes else []
    annotations = [*jsons, *list_files(masks, [one for one in suffixes if one != '.json'])]
    if seg_map_suffix:
        annotations = [name for name in annotations if name.endswith(seg_map_suffix)]
    elif {stem(name) for name in jsons} & {stem(name) for name in pictures}:
        annotations = jsons
    if img_suffix:
        pictures = [name for name in pictures if name.endswith(img_suffix)]
    if images.resolve() == masks.resolve():
        if img_suffix and not seg_map_suffix:
            annotations = sorted(set(annotations) - set(pictures))
        elif seg_map_suffix or not set(pictures) <= set(annotations):
            pictures = sorted(set(pictures) - set(annotations))
        elif pictures:
            pictures, annotations = _part(pictures, images)
    if not pictures:
        wanted = img_suffix or ', '.join(IMAGE_SUFFIXES)
        raise ValueError(f'{images} contains no images: expected files that end in {wanted}')
    if not annotations:
        hint = ''
        if list_files(masks, ('.jpg', '.jpeg')):
            hint = '; JPEG files cannot be masks, because compression changes labels: save them as PNG'
            if '.json' not in suffixes:
                hint = '; JPEG files do not preserve depth: save it as 16-bit PNG or as .npy'
        kinds = seg_map_suffix or ', '.join(suffixes)
        raise ValueError(f'{masks} contains no annotations: expected files that end in {kinds}{hint}')
    return pictures, annotations


def _match(
    images: Path,
    masks: Path,
    pictures: list[str],
    annotations: list[str],
    img_suffix: str,
    seg_map_suffix: str,
) -> tuple[dict[str, str], str, str]:
    """Find the endings in which the names of images and annotations differ.

    Returns:
        The image of each name without its ending, the ending of the images, and that of the annotations.

    Raises:
        ValueError: If nothing matches, several endings match equally well, or two images have the same name.
    """
    img_end, ends = img_suffix, {}
    for img_end in (img_suffix,) if img_suffix else ('', *_endings(pictures)):
        known = _named(pictures, img_end, images)
        ends = _common_ends(known, annotations)
        if seg_map_suffix:
            ends = {end: count for end, count in ends.items() if end == seg_map_suffix}
        if ends:
            break
    if not ends:
        raise ValueError(
            f'no file in {masks} matches the name of an image in {images}, such as {annotations[0]} and '
            f'{pictures[0]}{_invisible(pictures, annotations)}; the annotation of a/b.jpg must be a/b.png, '
            "a/b_END.png with the same END for all, or labelme's a/b.json; or give the endings of both with "
            '--img-suffix and --seg-map-suffix'
        )
    end = next(iter(ends))
    rivals = [other for other, count in ends.items() if count == ends[end] and other != end]
    if rivals:
        raise ValueError(
            f'equally many annotations end in {" and in ".join((end, *rivals[:4]))}: choose one with '
            f'--seg-map-suffix {end}'
        )
    return known, img_end, end


def _shared_suffix(found: list[tuple[str, str]]) -> str:
    suffixes = {Path(image).suffix for image, _ in found}
    return suffixes.pop() if len(suffixes) == 1 else ''


def _part(names: list[str], folder: Path) -> tuple[list[str], list[str]]:
    """Tell images and masks with the same suffix in one folder apart by their names.

    Raises:
        ValueError: If no ending, such as ``_mask.png``, distinguishes them.
    """
    stems = {stem(name) for name in names}
    ends = _common_ends(stems, [name for name in names if Path(name).suffix.lower() in LOSSLESS], whole=False)
    end = next(iter(ends), '')
    masks = [name for name in names if end and name.endswith(end) and name.removesuffix(end) in stems]
    if 5 * len(masks) < 2 * len(names) or _IMAGE_END.fullmatch(end):
        raise ValueError(
            f'{folder} contains images and masks, whose names do not show which is which, such as '
            f'{names[0]} and {names[-1]}: give the endings of both with --img-suffix and --seg-map-suffix'
        )
    return sorted(set(names) - set(masks)), masks


def _endings(names: list[str]) -> list[str]:
    """Return the endings after a separator that at least half of the names share, most frequent first."""
    counts: Counter = Counter()
    for name in names:
        base = Path(name).name
        counts.update({base[at:] for at in range(1, len(base)) if base[at] in '_-. '} - {Path(name).suffix})
    return sorted(
        (end for end, count in counts.items() if 2 * count >= len(names)), key=lambda end: (-counts[end], end)
    )


def _named(pictures: list[str], end: str, folder: Path) -> dict[str, str]:
    """Return the image of each name without ``end``, or without the suffix if ``end`` is empty."""
    pictures = [name for name in pictures if name.endswith(end)]
    names = [name.removesuffix(end) if end else stem(name) for name in pictures]
    known = dict(zip(names, pictures, strict=True))
    if len(known) < len(pictures):
        twice = [name for name, count in Counter(names).items() if count > 1]
        both = ' and '.join(image for name, image in zip(names, pictures, strict=True) if name == twice[0])
        raise ValueError(
            f'{len(twice)} names in {folder} belong to several images, such as {both}: keep one of them, or '
            'choose with --img-suffix'
        )
    return known


def _common_ends(known: Collection[str], annotations: list[str], *, whole: bool = True) -> dict[str, int]:
    """Return the endings of annotation names after image names, and their counts, most frequent first.

    Args:
        known: Names of images without their ending.
        annotations: Names of annotations.
        whole: Whether the ending may be only the suffix.
    """
    ends: Counter = Counter()
    for name in annotations:
        bare = stem(name)
        longest = next(
            (bare[:cut] for cut in range(len(bare) - (not whole), 0, -1) if bare[:cut] in known), None
        )
        if longest is not None:
            ends[name[len(longest) :]] += 1
    return dict(sorted(ends.items(), key=lambda item: (-item[1], len(item[0]), item[0])))


def _invisible(names: Iterable[str], others: Iterable[str]) -> str:
    """Return a hint if two names differ only in their Unicode form, case or blanks."""
    by_form = {written_alike(stem(other)): other for other in others}
    for name in names:
        if other := by_form.get(written_alike(stem(name))):
            return f' (the names {name!a} and {other!a} are written differently)'
    return ''


@dataclass
class Reader:
    """Base class of the readers, which read annotations as one integer per pixel.

    Args:
        kind: Name of the kind of annotations, for messages.
        in_place: Whether training can read integers below 256 as labels from the files.
        names: Name of each integer, as far as the annotations define it.
        colours: RGB colour of each integer, as far as the annotations define it.
    """

    kind: str
    in_place: bool = False
    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, Colour] = field(default_factory=dict)

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """Return the integer of each pixel, of shape HxW.

        Args:
            path: Path of the annotation.
            size: (height, width) of the image.

        Raises:
            BadSampleError: If the file cannot be used.
        """
        raise NotImplementedError

    def colour(self, number: int) -> Colour | None:
        """Return the RGB colour of an integer, or None."""
        return self.colours.get(number)

    def show(self, number: int) -> str:
        """Return an integer as the user knows it from the annotations."""
        return self.names.get(number, str(number))


class IndexReader(Reader):
    """Reads masks whose pixels are grey levels or palette indices."""

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        return LoadAnnotations().read(str(path))  # as in training


def palette_of(path: Path | str) -> dict[int, Colour]:
    """Return the RGB colour of each index of a palette image; empty for any other file."""
    try:
        with Image.open(path) as image:
            flat = (image.getpalette() or []) if image.mode == 'P' else []
    except DECODER_ERRORS:
        return {}
    return dict(enumerate(zip(*(flat[i::3] for i in range(3)), strict=False)))


def differing_palettes(colours: Mapping[str, Mapping[int, Colour]]) -> str | None:
    """Return how the palettes of masks differ, or None.

    Args:
        colours: Colours of the indices that occur in each mask.
    """
    first: dict[int, tuple[Colour, str]] = {}
    for path, palette in colours.items():
        for index, colour in palette.items():
            known, other = first.setdefault(index, (colour, path))
            if colour != known:
                one, two = (','.join(map(str, rgb)) for rgb in (known, colour))
                return f'index {index} is the colour {one} in {other}, but {two} in {path}'
    return None


class ColourReader(Reader):
    """Reads masks whose colours are classes; the integer is red x 65536 + green x 256 + blue."""

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is None:
            raise BadSampleError(f'mask {path} cannot be read: it is damaged or not an image', 'mask damaged')
        blue, green, red = (picture[..., channel].astype(np.int32) for channel in range(3))
        return red << 16 | green << 8 | blue

    def colour(self, number: int) -> Colour:
        return number >> 16, number >> 8 & 255, number & 255

    def show(self, number: int) -> str:
        return ','.join(map(str, self.colour(number)))


def image_reader(path: Path) -> Reader:
    """Return the reader for masks of the kind of ``path``.

    Raises:
        ValueError: If the file is not an image or its mode is not supported.
    """
    try:
        with Image.open(path) as image:
            mode, kind = image.mode, image.format
    except DECODER_ERRORS as error:
        raise ValueError(f'mask {path} is damaged or not an image: {error}') from error
    if mode == 'P':
        return IndexReader('palette images', True, colours=palette_of(path))
    if mode in INDEX_MODES:
        return IndexReader('index masks', True)
    if mode in COLOUR_MODES:
        return ColourReader('colour masks')
    raise ValueError(
        f'mask {path} ({kind}) has the mode {mode}; supported are {", ".join(INDEX_MODES + COLOUR_MODES)}'
    )


def _load_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError) as error:
        raise BadSampleError(f'annotation {path} is not JSON: {error}', 'annotation damaged') from error
    if not isinstance(content, dict):
        raise BadSampleError(f'annotation {path} is not a JSON object', 'annotation damaged')
    return content


class LabelmeReader(Reader):
    """Reads labelme files, one per image; later shapes cover earlier ones, as in labelme's export."""

    @classmethod
    def scan(cls, pairs: Pairs) -> 'LabelmeReader':
        """Read the names of the shapes in all files that can be read."""
        shapes: list[dict] = []
        for _, annotation in pairs.found:
            with suppress(BadSampleError):  # reported when the file is read
                shapes += _shapes(_load_json(pairs.masks / annotation), pairs.masks / annotation)
        names = {shape['label'] for shape in shapes} - {BACKGROUND}
        kinds = Counter(shape.get('shape_type', 'polygon') for shape in shapes)
        left = {str(kind): count for kind, count in kinds.items() if kind not in AREAS}
        if left:
            listed = ', '.join(f'{count} {kind}' for kind, count in left.items())
            pairs.notes.append(f'skipped {sum(left.values())} shapes that are not areas: {listed}')
        return cls('labelme polygons', names=dict(enumerate([BACKGROUND, *sorted(names)])))

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        content = _load_json(path)
        height, width = content.get('imageHeight', size[0]), content.get('imageWidth', size[1])
        if (height, width) != size:
            raise BadSampleError(
                f'annotation {path} is for an image of {height}x{width} (height x width), but the image is '
                f'{size[0]}x{size[1]}',
                'sizes differ',
            )
        number = {name: one for one, name in self.names.items()}
        canvas = Image.new('I', (size[1], size[0]), 0)
        draw = ImageDraw.Draw(canvas)
        for shape in _shapes(content, path):
            try:
                _paint(canvas, draw, shape, number[shape['label']], path)
            except (TypeError, ValueError, KeyError, OSError) as error:
                message = f'annotation {path}: the shape {shape["label"]} cannot be drawn: {error}'
                raise BadSampleError(message, 'annotation damaged') from error
        return np.asarray(canvas, np.int32)


def _shapes(content: dict, path: Path) -> list[dict]:
    shapes = content.get('shapes')
    if not isinstance(shapes, list) or not all(
        isinstance(one, dict) and isinstance(one.get('label'), str) and 'points' in one for one in shapes
    ):
        raise BadSampleError(f"annotation {path} has no 'shapes' in labelme's format", 'not of labelme')
    return shapes


def _paint(canvas: Image.Image, draw: ImageDraw.ImageDraw, shape: dict, number: int, path: Path) -> None:
    points = [(float(x), float(y)) for x, y in shape['points']]
    kind = shape.get('shape_type', 'polygon')
    if kind == 'polygon' and len(points) > 2:
        draw.polygon(points, fill=number, outline=number)
    elif kind == 'rectangle' and len(points) == 2:
        (left, right), (top, bottom) = (sorted(axis) for axis in zip(*points, strict=True))
        draw.rectangle((left, top, right, bottom), fill=number)
    elif kind == 'circle' and len(points) == 2:
        (x, y), edge = points
        radius = float(np.hypot(edge[0] - x, edge[1] - y))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=number)
    elif kind == 'mask' and len(points) == 2:  # a PNG of the box
        with Image.open(io.BytesIO(base64.b64decode(shape['mask']))) as covered:
            canvas.paste(number, (int(points[0][0]), int(points[0][1])), covered.convert('1'))
    elif kind in AREAS:
        raise BadSampleError(f'annotation {path}: {kind} with {len(points)} points', 'annotation damaged')


@dataclass
class CocoReader(Reader):
    """Reads one COCO file for all images; smaller objects cover larger ones.

    Args:
        annotations: Annotations by image, the largest first.
        number: Integer by category id.
    """

    annotations: dict[str, list[dict]] = field(default_factory=dict)
    number: dict[int, int] = field(default_factory=dict)

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        from pycocotools import mask

        labels = np.zeros(size, np.int32)
        for one in self.annotations[path.as_posix()]:
            what, shape = f'annotation {one.get("id")} of {path}', one.get('segmentation')
            if not shape:
                message = f"{what} has no 'segmentation'; boxes cannot be used as masks"
                raise BadSampleError(message, 'no segmentation')
            try:
                if isinstance(shape, list):
                    shape = mask.merge(mask.frPyObjects(shape, *size))
                elif isinstance(shape['counts'], list):
                    shape = mask.frPyObjects(shape, *size)
                covered = mask.decode(shape)
            except Exception as error:  # the exceptions of pycocotools have no common base class
                raise BadSampleError(f'{what} cannot be drawn: {error}', 'annotation damaged') from error
            if covered.shape != size:
                raise BadSampleError(
                    f'{what} has size {covered.shape}, but the image {size} (height, width)', 'sizes differ'
                )
            labels[covered > 0] = self.number[one['category_id']]
        return labels


def read_coco(images: Path, file: Path) -> tuple[Pairs, CocoReader]:
    """Read a COCO file.

    Args:
        images: Folder of images.
        file: The JSON file.

    Raises:
        ValueError: If it is not a COCO file, lists no image of the folder, or pycocotools is not installed.
    """
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise ValueError('reading COCO annotations needs pycocotools: pip install pycocotools') from error
    content = _load_json(file)
    try:
        categories = sorted((one['id'], one['name']) for one in content['categories'])
        listed = {one['id']: one['file_name'] for one in content['images']}
        annotations: dict[str, list[dict]] = defaultdict(list)
        for one in sorted(content['annotations'], key=lambda one: -one.get('area', 0)):
            annotations[listed[one['image_id']]].append(one)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f'{file} is not a COCO file (with images, annotations, categories): {error!r}'
        ) from None
    found = [(name, name) for name in list_files(images, IMAGE_SUFFIXES) if name in set(listed.values())]
    if not found:
        first = next(iter(listed.values()), 'no images')
        raise ValueError(f'no image listed in {file} is in {images}: it lists {first}')
    pairs = Pairs(images, Path(), found, image_suffix=_shared_suffix(found))
    absent = len(set(listed.values())) - len(found)
    if absent:
        pairs.notes.append(f'skipped {absent} images of {file} that are not in {images}')
    number = {category: 0 if name == BACKGROUND else at for at, (category, name) in enumerate(categories, 1)}
    names = {0: BACKGROUND, **{number[category]: name for category, name in categories}}
    return pairs, CocoReader('COCO annotations', names=names, annotations=annotations, number=number)
