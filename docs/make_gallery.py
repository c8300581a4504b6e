"""Make the pictures of docs/gallery.md: python docs/make_gallery.py FOLDER

Writes the quickstarts' data and runs into FOLDER, or uses those that are there, and draws with the tools.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import cv2

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
TARGET = DOCS / '_static' / 'gallery'
WIDEST = 1000
"""Maximum width of a picture in pixels."""


def tool(name: str, *arguments: object, cwd: Path) -> None:
    """Run a tool in a folder."""
    command = [sys.executable, str(ROOT / 'tools' / f'{name}.py'), *map(str, arguments)]
    subprocess.run(command, cwd=cwd, check=True)


def keep(source: Path, name: str) -> None:
    """Store a picture as JPEG in ``TARGET``."""
    picture = cv2.imread(str(source))
    height, width = picture.shape[:2]
    if width > WIDEST:
        size = (WIDEST, round(height * WIDEST / width))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    TARGET.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(TARGET / f'{name}.jpg'), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])


def train(name: str, data: str, *options: str, folder: Path) -> str:
    """Make the data, train if there is no run yet, and return the newest checkpoint."""
    pointer = folder / 'work_dirs' / name / 'last_checkpoint'
    if not pointer.is_file():
        tool('make_quickstart_data', f'data/{data}', *options, cwd=folder)
        tool('train', f'{name}.py', cwd=folder)
    return str(pointer.with_name(pointer.read_text(encoding='utf-8').strip()))


def draw_segmentation(folder: Path) -> None:
    """Draw what the tools draw of a segmentation."""
    checkpoint = train('quickstart', 'quickstart', folder=folder)
    run = Path('work_dirs/quickstart')
    image = 'data/quickstart/images/validation/validation_0001.jpg'
    shown = ('--show-dir', run / 'show', '--scores', run / 'scores.npz')
    tool('test', 'quickstart.py', checkpoint, '--work-dir', run, *shown, cwd=folder)
    tool('infer', checkpoint, image, '--show-dir', 'overlays', '--legend', cwd=folder)
    tool('attention_maps', 'quickstart.py', checkpoint, image, '--out', 'attention.png', cwd=folder)
    tool('browse_dataset', 'quickstart.py', '--number', 6, '--out', 'samples.png', cwd=folder)
    tool('analyze_logs', run, '--out', 'curves.png', cwd=folder)
    tool('confusion_matrix', run / 'scores.npz', '--out', 'confusion.png', cwd=folder)
    keep(folder / run / 'show' / 'validation_0001.png', 'segmentation_test')
    keep(folder / 'overlays' / 'validation_0001.png', 'segmentation_overlay')
    for name in ('attention', 'samples', 'curves', 'confusion'):
        keep(folder / f'{name}.png', name)


def draw_depth(folder: Path) -> None:
    """Draw what the tools draw of depth."""
    checkpoint = train('quickstart_depth', 'quickstart_depth', '--depth', folder=folder)
    run = Path('work_dirs/quickstart_depth')
    image = 'data/quickstart_depth/images/validation/validation_0001.jpg'
    tool('test', 'quickstart_depth.py', checkpoint, '--work-dir', run, '--show-dir', run / 'show', cwd=folder)
    tool('infer', checkpoint, image, '--show-dir', 'depth', '--legend', cwd=folder)
    keep(folder / run / 'show' / 'validation_0001.png', 'depth_test')
    keep(folder / 'depth' / 'validation_0001.png', 'depth_overlay')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    where = parser.parse_args().folder.resolve()
    where.mkdir(parents=True, exist_ok=True)
    draw_segmentation(where)
    draw_depth(where)
