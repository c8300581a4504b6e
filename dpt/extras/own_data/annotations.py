"""A user's images and annotations: which belong together, and labels of any kind as one number a pixel."""

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
"""Shapes of labelme that cover an area; lines and points are left out."""

Colour = tuple[int, int, int]


@dataclass
class Pairs:
    """Images and their annotations.

    Args:
        images: Folder of the images.
        masks: Folder of the annotations.
        found: (image, annotation) relative to the folders, sorted.
        mask_end: End of an annotation's name after the image's name without its suffix.
        image_suffix: Suffix of all images; empty if they differ.
        notes: Files left out, a line each.
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
    """Return the files of a folder and its subfolders that have one of the suffixes, in any case; sorted.

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
    """Find the annotation of each image: the same name, or the same with an end such as ``_mask``.

    Args:
        images: Folder of images.
        masks: Folder of masks, or of JSON files of labelme; it may be the same folder.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If nothing matches, or two images have the same name.
    """
    pictures = list_files(images, IMAGE_SUFFIXES)
    annotations = list_files(masks, ('.json',)) or list_files(masks, LOSSLESS)
    if images.resolve() == masks.resolve():
        pictures = sorted(set(pictures) - set(annotations))
    if not pictures:
        raise ValueError(
            f'{images} holds no image: files that end in {", ".join(IMAGE_SUFFIXES)} were expected'
        )
    if not annotations:
        hint = ''
        if list_files(masks, ('.jpg', '.jpeg')):
            hint = '; JPEG files cannot be masks, because compression changes labels: save them as PNG'
        kinds = ', '.join((*LOSSLESS, '.json'))
        raise ValueError(f'{masks} holds no annotation: files that end in {kinds} were expected{hint}')
    known = {stem(name): name for name in pictures}
    if len(known) < len(pictures):
        twice = [name for name, count in Counter(map(stem, pictures)).items() if count > 1]
        both = ' and '.join(name for name in pictures if stem(name) == twice[0])
        raise ValueError(f'{len(twice)} images of {images} have one name twice, such as {both}: keep one')
    ends = _common_ends(known, annotations)
    if not ends:
        raise ValueError(
            f'no file of {masks} is named as an image of {images}: {annotations[0]} beside {pictures[0]}; '
            "the annotation of a/b.jpg is a/b.png, a/b_END.png with one END for all, or labelme's a/b.json"
        )
    end, present = ends[0][0], set(annotations)
    pairs = Pairs(
        images, masks, [(known[name], name + end) for name in sorted(known) if name + end in present], end
    )
    without = [image for name, image in known.items() if name + end not in present]
    if without:
        pairs.notes.append(f'{len(without)} images without annotation are left out, such as {without[0]}')
    unused = sorted(present - {mask for _, mask in pairs.found})
    if unused:
        pairs.notes.append(f'{len(unused)} annotations are not used, such as {unused[0]}')
    if len(ends) > 1 and ends[1][1] == len(pairs.found):
        pairs.notes.append(f'as many annotations end in {ends[1][0]} as in {end}: the latter are used')
    return pairs


def _common_ends(known: Iterable[str], annotations: list[str]) -> list[tuple[str, int]]:
    """Return what follows the names of images in names of annotations, and how often; most frequent first."""
    ends: Counter = Counter()
    for name in annotations:
        bare = stem(name)
        longest = next((bare[:cut] for cut in range(len(bare), 0, -1) if bare[:cut] in known), None)
        if longest is not None:
            ends[name[len(longest) :]] += 1
    return sorted(ends.items(), key=lambda item: (-item[1], len(item[0]), item[0]))


@dataclass
class Reader:
    """Reads annotations as one whole number a pixel; the base of the readers of each kind.

    Args:
        kind: Name of the kind, for the user.
        in_place: Whether numbers below 256 are labels that training can read from the files.
        names: Names of the numbers that the annotations state.
        colours: RGB colours of the numbers that the annotations state.
    """

    kind: str
    in_place: bool = False
    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, Colour] = field(default_factory=dict)

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """Return the number of each pixel, HxW.

        Args:
            path: Path of the annotation.
            size: (height, width) of the image.

        Raises:
            BadSampleError: If the file cannot be used.
        """
        raise NotImplementedError

    def colour(self, number: int) -> Colour | None:
        """Return the RGB colour of a number, or None."""
        return self.colours.get(number)

    def show(self, number: int) -> str:
        """Return the notation of a number in the annotations."""
        return self.names.get(number, str(number))


class IndexReader(Reader):
    """Masks whose pixels are numbers: grey levels, or indices of a palette."""

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        return LoadAnnotations().read(str(path))  # as training reads them


class ColourReader(Reader):
    """Masks whose colours are classes; a number is red x 65536 + green x 256 + blue."""

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
    """Return the reader for masks like this one.

    Raises:
        ValueError: If it is not an image that can be a mask.
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
        f'mask {path} ({kind}) stores pixels as {mode}: {", ".join(INDEX_MODES + COLOUR_MODES)} can be read'
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
    """Files of labelme, one an image; later shapes cover earlier ones, as labelme exports them."""

    @classmethod
    def scan(cls, pairs: Pairs) -> 'LabelmeReader':
        """Read the names of the shapes in all files.

        Raises:
            BadSampleError: If a file is not of labelme.
        """
        files = [pairs.masks / annotation for _, annotation in pairs.found]
        shapes = [shape for file in files for shape in _shapes(_load_json(file), file)]
        names = {shape['label'] for shape in shapes} - {BACKGROUND}
        lines = sum(shape.get('shape_type', 'polygon') not in AREAS for shape in shapes)
        if lines:
            pairs.notes.append(f'{lines} shapes that cover no area (lines, points) are left out')
        return cls('labelme polygons', names=dict(enumerate([BACKGROUND, *sorted(names)])))

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        content = _load_json(path)
        height, width = content.get('imageHeight', size[0]), content.get('imageWidth', size[1])
        if (height, width) != size:
            raise BadSampleError(
                f'annotation {path} is of an image of {height}x{width} (height x width), which is '
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
        raise BadSampleError(f"annotation {path} has no 'shapes' as labelme writes them", 'not of labelme')
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
        raise BadSampleError(f'annotation {path}: a {kind} of {len(points)} points', 'annotation damaged')


@dataclass
class CocoReader(Reader):
    """One file of COCO for all images; smaller objects cover larger ones.

    Args:
        annotations: Annotations by image, the largest first.
        number: Number of each category id.
    """

    annotations: dict[str, list[dict]] = field(default_factory=dict)
    number: dict[int, int] = field(default_factory=dict)

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        from pycocotools import mask

        labels = np.zeros(size, np.int32)
        for one in self.annotations[path.as_posix()]:
            what, shape = f'annotation {one.get("id")} of {path}', one.get('segmentation')
            if not shape:
                message = f"{what} has no 'segmentation': boxes are not masks"
                raise BadSampleError(message, 'no segmentation')
            try:
                if isinstance(shape, list):
                    shape = mask.merge(mask.frPyObjects(shape, *size))
                elif isinstance(shape['counts'], list):
                    shape = mask.frPyObjects(shape, *size)
                covered = mask.decode(shape)
            except Exception as error:  # pycocotools' errors for wrong polygons share no base class
                raise BadSampleError(f'{what} cannot be painted: {error}', 'annotation damaged') from error
            if covered.shape != size:
                raise BadSampleError(f'{what} is of {covered.shape}, the image of {size}', 'sizes differ')
            labels[covered > 0] = self.number[one['category_id']]
        return labels


def read_coco(images: Path, file: Path) -> tuple[Pairs, CocoReader]:
    """Read a file of COCO.

    Args:
        images: Folder of images.
        file: The JSON file.

    Raises:
        ValueError: If it is not a file of COCO, names no image of the folder, or pycocotools is missing.
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
            f'{file} is not a file of COCO (images, annotations, categories): {error!r}'
        ) from None
    found = [(name, name) for name in list_files(images, IMAGE_SUFFIXES) if name in set(listed.values())]
    if not found:
        first = next(iter(listed.values()), 'no image at all')
        raise ValueError(f'no image that {file} names is in {images}: it names {first}')
    pairs = Pairs(images, Path(), found)
    absent = len(set(listed.values())) - len(found)
    if absent:
        pairs.notes.append(f'{absent} images of {file} are not in {images} and left out')
    number = {category: 0 if name == BACKGROUND else at for at, (category, name) in enumerate(categories, 1)}
    names = {0: BACKGROUND, **{number[category]: name for category, name in categories}}
    return pairs, CocoReader('COCO annotations', names=names, annotations=annotations, number=number)
