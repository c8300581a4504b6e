"""Match a user's images with their annotations, and read annotations of any kind as one integer per pixel."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from dpt.datasets.bad_sample import BadSampleError
from dpt.datasets.transforms import LoadAnnotations
from dpt.extras.files import IMAGE_SUFFIXES

LOSSLESS = ('.png', '.bmp', '.tif', '.tiff')
INDEX_MODES = ('1', 'L', 'I', 'I;16', 'P')
COLOUR_MODES = ('RGB', 'RGBA')
BACKGROUND = 'background'
AREAS = ('polygon', 'rectangle', 'circle')
"""labelme shapes that cover an area; lines and points are ignored."""

Colour = tuple[int, int, int]


@dataclass
class Pairs:
    """Images and their annotations.

    Args:
        images: Folder of the images.
        masks: Folder of the annotations.
        found: Sorted (image, annotation) pairs, relative to the folders.
        mask_end: Part of the annotation names that follows the image name without suffix.
        image_suffix: Suffix of all images; empty if the suffixes differ.
        notes: One line for each group of skipped files.
    """

    images: Path
    masks: Path
    found: list[tuple[str, str]]
    mask_end: str = ''
    notes: list[str] = field(default_factory=list)
    image_suffix: str = field(init=False)

    def __post_init__(self) -> None:
        suffixes = {Path(image).suffix for image, _ in self.found}
        self.image_suffix = suffixes.pop() if len(suffixes) == 1 else ''


def list_files(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the sorted files in a folder and its subfolders with one of the suffixes, ignoring case.

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder')
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob('*')
        if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith('.')
    )


def stem(name: str) -> str:
    """Return a relative path without its last suffix."""
    return name[: len(name) - len(Path(name).suffix)]


def pair(images: Path, masks: Path) -> Pairs:
    """Find the annotation of each image: the same name, optionally with an ending such as ``_mask``.

    Args:
        images: Folder of images.
        masks: Folder of masks, or of labelme JSON files; may be the folder of images.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If nothing matches, or two images have the same name.
    """
    pictures = list_files(images, IMAGE_SUFFIXES)
    annotations = list_files(masks, ('.json',)) or list_files(masks, LOSSLESS)
    if images.resolve() == masks.resolve():
        pictures = sorted(set(pictures) - set(annotations))
    if not pictures:
        raise ValueError(
            f'{images} contains no images: expected files that end in {", ".join(IMAGE_SUFFIXES)}'
        )
    if not annotations:
        hint = ''
        if list_files(masks, ('.jpg', '.jpeg')):
            hint = '; JPEG files cannot be masks, because compression changes labels: save them as PNG'
        kinds = ', '.join((*LOSSLESS, '.json'))
        raise ValueError(f'{masks} contains no annotations: expected files that end in {kinds}{hint}')
    known = {stem(name): name for name in pictures}
    if len(known) < len(pictures):
        twice = [name for name, count in Counter(map(stem, pictures)).items() if count > 1]
        both = ' and '.join(name for name in pictures if stem(name) == twice[0])
        raise ValueError(
            f'{len(twice)} names in {images} belong to several images, such as {both}: keep one of them'
        )
    ends = _common_ends(known, annotations)
    if not ends:
        raise ValueError(
            f'no file in {masks} matches the name of an image in {images}, such as {annotations[0]} and '
            f'{pictures[0]}; the annotation of a/b.jpg must be a/b.png, a/b_END.png with the same END for '
            "all, or labelme's a/b.json"
        )
    end, present = ends[0][0], set(annotations)
    pairs = Pairs(
        images, masks, [(known[name], name + end) for name in sorted(known) if name + end in present], end
    )
    without = [image for name, image in known.items() if name + end not in present]
    if without:
        pairs.notes.append(f'skipped {len(without)} images without annotation, such as {without[0]}')
    unused = sorted(present - {mask for _, mask in pairs.found})
    if unused:
        pairs.notes.append(f'{len(unused)} annotations are not used, such as {unused[0]}')
    if len(ends) > 1 and ends[1][1] == len(pairs.found):
        pairs.notes.append(f'as many annotations end in {ends[1][0]} as in {end}; the latter are used')
    return pairs


def _common_ends(known: Iterable[str], annotations: list[str]) -> list[tuple[str, int]]:
    """Return the endings of annotation names after image names, and their counts, most frequent first."""
    ends: Counter = Counter()
    for name in annotations:
        bare = stem(name)
        longest = next((bare[:cut] for cut in range(len(bare), 0, -1) if bare[:cut] in known), None)
        if longest is not None:
            ends[name[len(longest) :]] += 1
    return sorted(ends.items(), key=lambda item: (-item[1], len(item[0]), item[0]))


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
            mode, kind, flat = image.mode, image.format, image.getpalette() or []
    except OSError as error:
        raise ValueError(f'mask {path} is damaged or not an image: {error}') from error
    if mode == 'P':
        colours = dict(enumerate(zip(*(flat[i::3] for i in range(3)), strict=False)))
        return IndexReader('palette images', True, colours=colours)
    if mode in INDEX_MODES:
        return IndexReader('index masks', True)
    if mode in COLOUR_MODES:
        return ColourReader('colour masks')
    raise ValueError(
        f'mask {path} ({kind}) has the mode {mode}; supported are {", ".join(INDEX_MODES + COLOUR_MODES)}'
    )


def _load_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise BadSampleError(f'annotation {path} is not JSON: {error}', 'annotation damaged') from error
    if not isinstance(content, dict):
        raise BadSampleError(f'annotation {path} is not a JSON object', 'annotation damaged')
    return content


class LabelmeReader(Reader):
    """Reads labelme files, one per image; later shapes cover earlier ones, as in labelme's export."""

    @classmethod
    def scan(cls, pairs: Pairs) -> 'LabelmeReader':
        """Read the names of the shapes in all files.

        Raises:
            BadSampleError: If a file is not a labelme file.
        """
        files = [pairs.masks / annotation for _, annotation in pairs.found]
        shapes = [shape for file in files for shape in _shapes(_load_json(file), file)]
        names = {shape['label'] for shape in shapes} - {BACKGROUND}
        lines = sum(shape.get('shape_type', 'polygon') not in AREAS for shape in shapes)
        if lines:
            pairs.notes.append(f'skipped {lines} shapes without area (lines, points)')
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
            _paint(draw, shape, number[shape['label']], path)
        return np.asarray(canvas, np.int32)


def _shapes(content: dict, path: Path) -> list[dict]:
    shapes = content.get('shapes')
    if not isinstance(shapes, list) or not all(
        isinstance(one, dict) and isinstance(one.get('label'), str) and 'points' in one for one in shapes
    ):
        raise BadSampleError(f"annotation {path} has no 'shapes' in labelme's format", 'not of labelme')
    return shapes


def _paint(draw: ImageDraw.ImageDraw, shape: dict, number: int, path: Path) -> None:
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
    pairs = Pairs(images, Path(), found)
    absent = len(set(listed.values())) - len(found)
    if absent:
        pairs.notes.append(f'skipped {absent} images of {file} that are not in {images}')
    number = {category: 0 if name == BACKGROUND else at for at, (category, name) in enumerate(categories, 1)}
    names = {0: BACKGROUND, **{number[category]: name for category, name in categories}}
    return pairs, CocoReader('COCO annotations', names=names, annotations=annotations, number=number)
