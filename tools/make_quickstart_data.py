"""Write a small synthetic data set of scenes with six classes, in the layout of ADE20K.

It writes OUT/images/{training,validation}/*.jpg, OUT/annotations/{training,validation}/*.png and meta.json.
As in ADE20K, label 0 means 'no label' and classes start at 1. The same arguments yield the same files.

With --depth, it also writes OUT/depth/{training,validation}/*.png: 16-bit PNG files of depth in units of
1/256 m, as in KITTI. Objects stand on sloping ground, 3 to 20 m away; sky and sun have no depth (0).
Nearer objects then hide farther ones, which differs from the images without --depth.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/make_quickstart_data.py data/quickstart --train 200
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from dpt.files import explain_os_error

CLASSES = ('sky', 'ground', 'tree', 'house', 'sun', 'car')
PALETTE = ((120, 180, 230), (150, 120, 80), (40, 140, 50), (190, 80, 60), (250, 220, 60), (120, 60, 180))
SKY, GROUND, TREE, HOUSE, SUN, CAR = range(1, 7)
SPLITS = ('training', 'validation')
FORMAT = 1
"""Increased when the pictures change, so that older data sets are rewritten."""

DEPTH_FACTOR = 256
"""Number in the depth files for a metre."""
CAMERA = 5 / 3
"""Height of the camera in metres times its focal length in heights of the image."""
RISE = 1 / 12
"""Heights of the image by which flat ground would end above the horizon that is drawn: it is a slope."""

Colour = tuple[float, float, float]


def hsv(rng: Generator, hue: tuple[int, int], saturation: tuple[int, int], value: tuple[int, int]) -> Colour:
    """Sample a BGR colour; hue in degrees, saturation and value in 0..255."""
    pixel = [rng.integers(*hue) % 360 // 2, rng.integers(*saturation), rng.integers(*value)]
    blue, green, red = cv2.cvtColor(np.array([[pixel]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return float(blue), float(green), float(red)


def smooth_noise(rng: Generator, height: int, width: int, cell: int) -> np.ndarray:
    """Return noise of shape HxW in -1..1 with blobs about ``cell`` pixels wide."""
    coarse = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


class Scene:
    """An image, its label map and its depth, which are painted with the same shapes.

    The camera looks at the horizon over rising ground. Depth is in metres, 0 where there is none. With
    ``occlusion``, what is painted later is hidden by what is nearer.
    """

    def __init__(self, rng: Generator, height: int, width: int, *, occlusion: bool = False) -> None:
        self.rng = rng
        self.occlusion = occlusion
        self.height, self.width = height, width
        self.horizon = int(height * rng.uniform(0.42, 0.6))
        self.image = np.zeros((height, width, 3), np.float32)
        self.label = np.zeros((height, width), np.uint8)
        self.depth = np.zeros((height, width), np.float32)

    def paint(
        self,
        mask: np.ndarray,
        texture: np.ndarray | Colour,
        label: int,
        depth: np.ndarray | float = 0.0,
    ) -> None:
        """Paint the pixels of an HxW mask with a colour or HxWx3 texture; set their label and depth."""
        inside = mask.astype(bool)
        if self.occlusion:  # wheels reach a little below the point where a car stands
            inside &= (self.depth == 0) | (depth <= 1.2 * self.depth)
        self.image[inside] = np.broadcast_to(np.asarray(texture, np.float32), self.image.shape)[inside]
        self.label[inside] = label
        self.depth[inside] = np.broadcast_to(np.asarray(depth, np.float32), self.depth.shape)[inside]

    def depth_of_ground(self, row: np.ndarray | float) -> np.ndarray:
        """Return the depth in metres of the ground seen in a row: 20 m at the horizon, less below it."""
        below = np.maximum(np.asarray(row, np.float32) - self.horizon, 0)
        return CAMERA * self.height / (below + RISE * self.height)

    def polygon(self, points: list[tuple[float, float]]) -> np.ndarray:
        """Return the mask of a polygon with the given (x, y) corners."""
        mask = np.zeros((self.height, self.width), np.uint8)
        return cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)

    def rectangle(self, left: float, top: float, right: float, bottom: float) -> np.ndarray:
        return self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)])

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
        mask = np.zeros((self.height, self.width), np.uint8)
        axes = (max(1, round(radius_x)), max(1, round(radius_y)))
        return cv2.ellipse(mask, (round(x), round(y)), axes, 0, 0, 360, 1, cv2.FILLED)

    def textured(self, colour: Colour, amount: float, cell: int) -> np.ndarray:
        """Return the colour with noise of up to ``amount`` grey levels, in blobs of ``cell`` pixels."""
        noise = smooth_noise(self.rng, self.height, self.width, cell)
        return np.asarray(colour, np.float32) + amount * noise[..., None]


def draw_background(scene: Scene) -> None:
    """Draw a sky that fades towards the horizon, and ground with colours from grass to asphalt."""
    rng = scene.rng
    top, bottom = hsv(rng, (190, 400), (20, 150), (150, 256)), hsv(rng, (190, 400), (10, 90), (170, 256))
    share = np.linspace(0, 1, scene.height, dtype=np.float32)[:, None, None]
    sky = (1 - share) * np.array(top, np.float32) + share * np.array(bottom, np.float32)
    scene.paint(np.ones_like(scene.label), sky + scene.textured((0, 0, 0), 12, 24), SKY)
    x = np.arange(scene.width, dtype=np.float32)
    phase = rng.uniform(0, 6.28)
    hill = scene.horizon + rng.uniform(0, 5) * np.sin(x / rng.uniform(12, 30) + phase)
    below = np.arange(scene.height)[:, None] >= hill[None]
    ground = scene.textured(hsv(rng, (20, 150), (20, 160), (70, 180)), 18, int(rng.integers(4, 14)))
    scene.paint(below, ground, GROUND, scene.depth_of_ground(np.arange(scene.height)[:, None]))


def draw_sun(scene: Scene) -> None:
    rng = scene.rng
    radius = rng.uniform(9, 16)
    x = rng.uniform(radius, scene.width - radius)
    y = rng.uniform(radius, max(radius + 1, scene.horizon - 2 * radius))
    colour = hsv(rng, (15, 60), (60, 220), (225, 256))
    scene.paint(scene.ellipse(x, y, radius, radius), scene.textured(colour, 6, 8), SUN)


def draw_house(scene: Scene, x: float) -> None:
    """Draw walls with windows and a door, and a pitched roof."""
    rng = scene.rng
    width, walls, roof = rng.uniform(28, 50), rng.uniform(18, 32), rng.uniform(8, 18)
    base = scene.horizon + rng.uniform(4, 14)
    depth = scene.depth_of_ground(base)
    left, right, top = x - width / 2, x + width / 2, base - walls
    colour = hsv(rng, (0, 360), (20, 170), (110, 230))
    scene.paint(scene.rectangle(left, top, right, base), scene.textured(colour, 8, 5), HOUSE, depth)
    eaves = rng.uniform(2, 5)
    gable = [(left - eaves, top), (right + eaves, top), (x + rng.uniform(-8, 8), top - roof)]
    tiles = scene.textured(hsv(rng, (0, 360), (30, 180), (60, 170)), 14, 3)
    scene.paint(scene.polygon(gable), tiles, HOUSE, depth)
    glass = hsv(rng, (180, 240), (10, 120), (30, 230))
    for column in np.arange(left + 4, right - 7, 11):
        scene.paint(scene.rectangle(column, top + 4, column + 6, top + 11), glass, HOUSE, depth)
    door = hsv(rng, (0, 360), (40, 200), (40, 120))
    scene.paint(scene.rectangle(x - 3, base - 11, x + 3, base), door, HOUSE, depth)


def draw_tree(scene: Scene, x: float) -> None:
    """Draw a trunk and a ragged crown in colours from green to autumn red."""
    rng = scene.rng
    base = scene.horizon + rng.uniform(2, 18)
    depth = scene.depth_of_ground(base)
    height, radius = rng.uniform(30, 55), rng.uniform(9, 17)
    trunk = scene.rectangle(x - 2.5, base - height * 0.5, x + 2.5, base)
    scene.paint(trunk, scene.textured(hsv(rng, (10, 40), (60, 150), (40, 100)), 12, 2), TREE, depth)
    leaves = scene.textured(hsv(rng, (15, 150), (70, 200), (60, 170)), 45, 3)
    for _ in range(6):
        dx, dy = rng.uniform(-0.6, 0.6, 2) * radius
        size = radius * rng.uniform(0.55, 0.9)
        scene.paint(scene.ellipse(x + dx, base - height * 0.7 + dy, size, size), leaves, TREE, depth)


def draw_car(scene: Scene, x: float) -> None:
    """Draw a body, a cabin with windows and two dark wheels, on the ground."""
    rng = scene.rng
    length = rng.uniform(34, 58)
    height = length * rng.uniform(0.2, 0.26)
    base = rng.uniform(scene.horizon + 14, scene.height - 4)
    depth = scene.depth_of_ground(base)
    left, right, middle = x - length / 2, x + length / 2, base - height
    body = scene.textured(hsv(rng, (0, 360), (30, 230), (60, 240)), 6, 12)
    cabin = [(left + length * 0.18, middle), (right - length * 0.15, middle)]
    cabin += [(right - length * 0.3, middle - height * 0.85), (left + length * 0.3, middle - height * 0.85)]
    scene.paint(scene.polygon(cabin), body, CAR, depth)
    scene.paint(scene.rectangle(left, middle, right, base), body, CAR, depth)
    glass = hsv(rng, (180, 240), (10, 80), (40, 220))
    panes = scene.rectangle(left + length * 0.32, middle - height * 0.7, right - length * 0.32, middle - 1)
    scene.paint(panes, glass, CAR, depth)
    for wheel in (left + length * 0.22, right - length * 0.22):
        scene.paint(scene.ellipse(wheel, base, height * 0.4, height * 0.4), (30, 30, 30), CAR, depth)
        scene.paint(scene.ellipse(wheel, base, height * 0.16, height * 0.16), (150, 150, 150), CAR, depth)


def unlabel_some_borders(scene: Scene) -> None:
    """Set random halves of the class borders, two pixels wide, to 0, like the gaps annotators leave."""
    kernel = np.ones((3, 3), np.uint8)
    borders = cv2.dilate(scene.label, kernel) != cv2.erode(scene.label, kernel)
    scene.label[borders & (smooth_noise(scene.rng, scene.height, scene.width, 20) > 0)] = 0


def make_scene(
    rng: Generator, size: tuple[int, int], *, occlusion: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a scene whose height and width differ by up to 10 % from ``size`` (height, width).

    Returns:
        A BGR image of shape HxWx3 and its labels of shape HxW, both uint8, and its depth in metres of shape
        HxW, float32.
    """
    height, width = (round(side * rng.uniform(0.9, 1.1)) for side in size)
    scene = Scene(rng, height, width, occlusion=occlusion)
    draw_background(scene)
    if rng.random() < 0.7:
        draw_sun(scene)
    draws = [draw_house] * int(rng.integers(0, 3)) + [draw_tree] * int(rng.integers(0, 4))
    for index in rng.permutation(len(draws)):
        draws[index](scene, rng.uniform(0.05, 0.95) * width)
    for _ in range(int(rng.integers(0, 4))):
        draw_car(scene, rng.uniform(0.1, 0.9) * width)
    unlabel_some_borders(scene)
    light = rng.uniform(0.8, 1.15)
    image = cv2.GaussianBlur(scene.image * light, (3, 3), 0) + rng.normal(
        0, rng.uniform(2, 7), scene.image.shape
    )
    return np.clip(np.round(image), 0, 255).astype(np.uint8), scene.label, scene.depth


def describe(train: int, val: int, size: tuple[int, int], seed: int, depth: bool) -> dict:
    """Return the content of ``meta.json``: data set metadata and the arguments of this tool."""
    made_by = {'format': FORMAT, 'train': train, 'val': val, 'size': list(size), 'seed': seed}
    return {
        'classes': list(CLASSES),
        'palette': [list(colour) for colour in PALETTE],
        'reduce_zero_label': True,
        **({'depth_rescale_factor': 1 / DEPTH_FACTOR} if depth else {}),
        'made_by': made_by,
    }


def kinds_of(meta: dict) -> dict[str, str]:
    """Return the folders that ``meta`` describes, with the suffix of their files."""
    kinds = {'images': '.jpg', 'annotations': '.png'}
    return {**kinds, 'depth': '.png'} if 'depth_rescale_factor' in meta else kinds


def is_complete(out: Path, meta: dict) -> bool:
    """Return whether ``out`` already contains the data set that ``meta`` describes."""
    path = out / 'meta.json'
    if not path.is_file() or json.loads(path.read_text(encoding='utf-8')) != meta:
        return False
    counts = (meta['made_by']['train'], meta['made_by']['val'])
    return all(
        len(list((out / kind / split).glob(f'*{suffix}'))) == count
        for split, count in zip(SPLITS, counts, strict=True)
        for kind, suffix in kinds_of(meta).items()
    )


def write(out: Path, meta: dict) -> None:
    """Write all files of the data set into the empty folder ``out``."""
    made_by = meta['made_by']
    for split_index, (split, count) in enumerate(
        zip(SPLITS, (made_by['train'], made_by['val']), strict=True)
    ):
        for kind in kinds_of(meta):
            (out / kind / split).mkdir(parents=True)
        for index in range(count):
            # One generator per image makes each image independent of the number of images.
            rng = np.random.default_rng([made_by['seed'], split_index, index])
            with_depth = 'depth' in kinds_of(meta)
            image, label, depth = make_scene(rng, tuple(made_by['size']), occlusion=with_depth)
            name = f'{split}_{index + 1:04d}'
            cv2.imwrite(str(out / 'images' / split / f'{name}.jpg'), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
            cv2.imwrite(str(out / 'annotations' / split / f'{name}.png'), label)
            if with_depth:
                stored = np.rint(depth * DEPTH_FACTOR).astype(np.uint16)
                cv2.imwrite(str(out / 'depth' / split / f'{name}.png'), stored)
    (out / 'meta.json').write_text(json.dumps(meta, indent=2) + '\n', encoding='utf-8')


def make_data(
    out: Path, *, train: int, val: int, size: tuple[int, int], seed: int, depth: bool = False
) -> bool:
    """Write the data set atomically, replacing an older one written by this tool.

    Returns:
        False if the data set already exists.

    Raises:
        ValueError: If ``out`` contains files that this tool did not write.
    """
    meta = describe(train, val, size, seed, depth)
    if is_complete(out, meta):
        return False
    if out.exists() and any(out.iterdir()) and not (out / 'meta.json').is_file():
        raise ValueError(
            f'{out} is not empty and has no meta.json of this tool: choose another folder or empty it'
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}-', dir=out.parent) as scratch:
        fresh = Path(scratch) / 'data'
        write(fresh, meta)
        if out.exists():
            shutil.move(out, Path(scratch) / 'old')
        fresh.rename(out)
    return True


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', nargs='?', type=Path, default=Path('data/quickstart'), help='folder to write')
    parser.add_argument('--train', type=int, default=120, help='number of training images')
    parser.add_argument('--val', type=int, default=30, help='number of validation images')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(120, 160), metavar=('HEIGHT', 'WIDTH'), help='mean image size'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--depth', action='store_true', help='also write the true depth')
    args = parser.parse_args()
    if min(args.size) < 80 or min(args.train, args.val) < 1:
        parser.error('--size must be at least 80 80, --train and --val at least 1')
    return args


def main() -> None:
    args = parse_args()
    try:
        made = make_data(
            args.out,
            train=args.train,
            val=args.val,
            size=tuple(args.size),
            seed=args.seed,
            depth=args.depth,
        )
    except (ValueError, OSError) as error:
        message = explain_os_error(error) if isinstance(error, OSError) else error
        raise SystemExit(f'error: {message}') from None
    done = 'wrote' if made else 'already there:'
    also = ', depth' if args.depth else ''
    counts = f'{args.train} training and {args.val} validation images, {len(CLASSES)} classes{also}'
    print(f'{done} {counts}: {args.out}')


if __name__ == '__main__':
    main()
