"""Polygons of labelme and of COCO, painted as one number a pixel: 0 where there is none."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dpt.datasets.bad_sample import BadSampleError
from dpt.extras.own_data.pairing import IMAGE_SUFFIXES, Pairs, list_files
from dpt.extras.own_data.readers import BACKGROUND

AREAS = ('polygon', 'rectangle', 'circle')
"""Shapes of labelme that cover an area; lines and points are left out."""


def _load(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise BadSampleError(f'annotation {path} is no JSON: {error}', 'annotation damaged') from error
    if not isinstance(content, dict):
        raise BadSampleError(f'annotation {path} holds no JSON object', 'annotation damaged')
    return content


@dataclass
class LabelmeReader:
    """Files of labelme, one an image; later shapes are on top, as labelme exports them."""

    names: dict[int, str]
    kind: str = 'labelme polygons'
    in_place: bool = False
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def scan(cls, pairs: Pairs) -> 'LabelmeReader':
        """Read all files once, for the names of their shapes.

        Raises:
            BadSampleError: A file is not of labelme.
        """
        names: set[str] = set()
        lines = 0
        for _, annotation in pairs.found:
            shapes = _shapes(pairs.masks / annotation)
            names.update(shape['label'] for shape in shapes)
            lines += sum(shape.get('shape_type', 'polygon') not in AREAS for shape in shapes)
        if lines:
            pairs.notes.append(f'{lines} shapes that cover no area (lines, points) are left out')
        return cls({0: BACKGROUND, **dict(enumerate(sorted(names - {BACKGROUND}), 1))})

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        content, shapes = _load(path), _shapes(path)
        told = content.get('imageHeight', size[0]), content.get('imageWidth', size[1])
        if told != size:
            raise BadSampleError(
                f'annotation {path} is of an image of {told[0]}x{told[1]} (height x width), which is '
                f'{size[0]}x{size[1]}',
                'sizes differ',
            )
        number = {name: one for one, name in self.names.items()}
        canvas = Image.new('I', (size[1], size[0]), 0)
        draw = ImageDraw.Draw(canvas)
        for shape in shapes:
            _paint(draw, shape, number[shape['label']], path)
        return np.asarray(canvas, np.int32)

    def show(self, number: int) -> str:
        return self.names[number]


def _shapes(path: Path) -> list[dict]:
    shapes = _load(path).get('shapes')
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
class CocoReader:
    """One file of COCO for all images; smaller objects are on top."""

    names: dict[int, str]
    annotations: dict[str, list[dict]]
    number: dict[int, int]
    kind: str = 'COCO annotations'
    in_place: bool = False
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        from pycocotools import mask

        labels = np.zeros(size, np.int32)
        for one in self.annotations[path.as_posix()]:
            shape = one.get('segmentation')
            if not shape:
                raise BadSampleError(
                    f"annotation {one.get('id')} of {path} has no 'segmentation': boxes alone are no masks",
                    'no segmentation',
                )
            try:
                if isinstance(shape, list):
                    shape = mask.merge(mask.frPyObjects(shape, *size))
                elif isinstance(shape['counts'], list):
                    shape = mask.frPyObjects(shape, *size)
                covered = mask.decode(shape)
            except Exception as error:  # pycocotools raises whatever a wrong polygon leads it to
                raise BadSampleError(
                    f'annotation {one.get("id")} of {path} cannot be painted: {error}', 'annotation damaged'
                ) from error
            if covered.shape != size:
                raise BadSampleError(
                    f'annotation {one.get("id")} of {path} is of {covered.shape}, the image of {size}',
                    'sizes differ',
                )
            labels[covered > 0] = self.number[one['category_id']]
        return labels

    def show(self, number: int) -> str:
        return self.names[number]


def read_coco(images: Path, file: Path) -> tuple[Pairs, CocoReader]:
    """Read a file of COCO.

    Args:
        images: Folder of images.
        file: The JSON file.

    Raises:
        ValueError: It is no such file, none of its images is in the folder, or pycocotools is missing.
    """
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise ValueError('reading COCO annotations needs pycocotools: pip install pycocotools') from error
    content = _load(file)
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
    present = list_files(images, IMAGE_SUFFIXES)
    found = [(name, name) for name in present if name in set(listed.values())]
    if not found:
        first = next(iter(listed.values()), 'no image at all')
        raise ValueError(f'no image that {file} names is in {images}: it names {first}')
    suffixes = {Path(name).suffix for name, _ in found}
    suffix = suffixes.pop() if len(suffixes) == 1 else ''
    pairs = Pairs(images, Path(), found, suffix, suffix)
    absent = len(set(listed.values())) - len(found)
    if absent:
        pairs.notes.append(f'{absent} images of {file} are not in {images} and left out')
    number = {category: 0 if name == BACKGROUND else at for at, (category, name) in enumerate(categories, 1)}
    names = {0: BACKGROUND, **{number[category]: name for category, name in categories}}
    return pairs, CocoReader(names, annotations, number)
