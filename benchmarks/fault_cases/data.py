"""Files of a data set that are damaged, missing, of the wrong kind, or unusual but sound."""

import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import torch

from fault_cases import Fault
from fault_cases.runs import error_line, run_tool, tiny_config

Spoil = Callable[[Path], Path]
"""Damages something in a data folder and returns the file to be named."""


def image_of(data: Path, number: int = 2) -> Path:
    """A training image."""
    return sorted((data / 'images/training').iterdir())[number]


def mask_of(data: Path, number: int = 2) -> Path:
    """The mask of a training image."""
    return sorted((data / 'annotations/training').iterdir())[number]


def png(width: int, height: int, channels: int = 1, value: int = 1) -> bytes:
    """A PNG of one value, written by hand so that nothing under test has a part in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
        )

    header = struct.pack('>IIBBBBB', width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    rows = (b'\0' + bytes([value]) * width * channels) * height
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )


def size_of(path: Path) -> tuple[int, int]:
    """Width and height."""
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def _cut(data: Path) -> Path:
    path = image_of(data)
    path.write_bytes(path.read_bytes()[:-60])
    return path


def _empty(data: Path) -> Path:
    image_of(data).write_bytes(b'')
    return image_of(data)


def _no_image(data: Path) -> Path:
    image_of(data).write_bytes(b'<html>404</html>')
    return image_of(data)


def _unreadable(data: Path) -> Path:
    path = image_of(data)
    path.unlink()
    path.symlink_to('/proc/self/mem')  # reading it fails even for root
    return path


def _animation(data: Path) -> Path:
    from PIL import Image

    path = image_of(data)
    with Image.open(path) as image:
        frame = image.convert('P')
    buffer = io.BytesIO()
    frame.save(buffer, 'GIF', save_all=True, append_images=[frame.rotate(180)])
    path.write_bytes(buffer.getvalue())
    return path


def _missing_mask(data: Path) -> Path:
    path = mask_of(data)
    path.unlink()
    return path


def _other_size(data: Path) -> Path:
    width, height = size_of(image_of(data))
    mask_of(data).write_bytes(png(width, height + 1))
    return mask_of(data)


def _rgb_mask(data: Path) -> Path:
    mask_of(data).write_bytes(png(*size_of(image_of(data)), channels=3))
    return mask_of(data)


def _label(data: Path) -> Path:
    mask_of(data).write_bytes(png(*size_of(image_of(data)), value=77))
    return mask_of(data)


def _turned(data: Path) -> Path:
    from PIL import Image

    path, exif = image_of(data), Image.Exif()
    exif[274] = 6
    with Image.open(path) as image:
        image.load()
    image.save(path, exif=exif)
    return mask_of(data)


def _empty_folder(data: Path) -> Path:
    for path in (data / 'images/training').iterdir():
        path.unlink()
    return data / 'images/training'


def refused(spoil: Spoil, phrase: str, *options: str) -> Callable[[Path], tuple[str, bool]]:
    """Training ends in one line that names the file and says the phrase."""

    def run(folder: Path) -> tuple[str, bool]:
        config = tiny_config(folder)
        path = spoil(folder / 'data')
        more = ('--cfg-options', *options) if options else ()
        result = run_tool('tools/train.py', config, '--work-dir', folder / 'work', *more)
        line = error_line(result.stderr)
        holds = result.returncode == 1 and path.name in line and phrase in line
        return f'exit {result.returncode}, {line.replace(str(folder), "") or result.stderr[-300:]}', holds

    return run


def unusual_images(folder: Path) -> tuple[str, bool]:
    """Grey, CMYK, RGBA and 16-bit images, each under the name of a JPEG."""
    from PIL import Image

    config = tiny_config(folder)
    for number, (mode, kind) in enumerate(
        [('L', 'JPEG'), ('CMYK', 'JPEG'), ('RGBA', 'PNG'), ('I;16', 'PNG')]
    ):
        path = image_of(folder / 'data', number)
        with Image.open(path) as image:
            image = image.convert('L' if mode == 'I;16' else mode)
        image.convert(mode).save(path, kind)
    result = run_tool('tools/train.py', config, '--work-dir', folder / 'work')
    done = (folder / 'work/iter_4.pth').is_file()
    return (
        f'exit {result.returncode}, checkpoint {"there" if done else "missing"}',
        not result.returncode and done,
    )


SKIP = 'train_dataloader.dataset.max_bad_samples'


def skipped(folder: Path) -> tuple[str, bool]:
    """One bad sample where one is allowed."""
    config = tiny_config(folder)
    path = _cut(folder / 'data')
    result = run_tool('tools/train.py', config, '--work-dir', folder / 'work', '--cfg-options', f'{SKIP}=1')
    output = result.stdout + result.stderr
    told = re.findall(r'skipped, \d+ of at most \d+ bad samples: .*', output)
    holds = not result.returncode and len(told) == 1 and path.name in told[0]
    return f'exit {result.returncode}, {" ".join(told).replace(str(folder), "")}', holds


def skipped_on_resume(folder: Path) -> tuple[str, bool]:
    """Four iterations at once, and two and two, with a sample that is replaced."""
    config = tiny_config(folder, more='randomness = dict(seed=3)\n')
    _cut(folder / 'data')
    options = (
        '--cfg-options',
        f'{SKIP}=1',
        'default_hooks.checkpoint.interval=2',
        'train_cfg.val_interval=100',
    )
    results = [
        run_tool('tools/train.py', config, '--work-dir', folder / 'whole', *options),
        run_tool('tools/train.py', config, '--work-dir', folder / 'parts', *options, 'train_cfg.max_iters=2'),
        run_tool('tools/train.py', config, '--work-dir', folder / 'parts', '--resume', *options),
    ]
    weights = [
        torch.load(folder / name / 'iter_4.pth', weights_only=True)['state_dict']
        for name in ('whole', 'parts')
    ]
    different = [key for key in weights[0] if not torch.equal(weights[0][key], weights[1][key])]
    skips = [('skipped, 1 of at most 1' in result.stdout + result.stderr) for result in results]
    holds = not different and any(skips) and not any(result.returncode for result in results)
    return f'{len(different)} of {len(weights[0])} tensors differ; skipped in {sum(skips)} of 3 runs', holds


def checked(folder: Path) -> tuple[str, bool]:
    """Several faults at once, looked for by check_data.py."""
    config = tiny_config(folder)
    data = folder / 'data'
    images, masks = [[of(data, number) for number in range(6)] for of in (image_of, mask_of)]
    masks[0].write_bytes(png(*size_of(images[0]), value=77))
    masks[1].unlink()
    masks[2].write_bytes(png(*size_of(images[2]), channels=3))
    images[4].write_bytes(images[4].read_bytes()[:-60])
    images[5].write_bytes(b'')
    result = run_tool('tools/check_data.py', config, '--workers', 2, '--json', folder / 'found.json')
    found = json.loads((folder / 'found.json').read_text())[0]['faults']
    kinds = {kind: len(told) for kind, told in found.items()}
    expected = {
        'label outside the classes',
        'mask missing',
        'mask has several channels',
        'image cut short',
        'image empty',
    }
    holds = result.returncode == 1 and expected <= set(kinds) and 'Traceback' not in result.stderr
    return f'exit {result.returncode}, {kinds}', holds and all(kinds[kind] == 1 for kind in expected)


def sound(folder: Path) -> tuple[str, bool]:
    """A data set without fault."""
    result = run_tool('tools/check_data.py', tiny_config(folder, train=30), '--workers', 2)
    last = result.stdout.strip().splitlines()[-1:] or [result.stderr[-300:]]
    return f'exit {result.returncode}, {last[0]}', result.returncode == 0


ONE_LINE = 'exit 1, one line that names the file'
FAULTS = (
    Fault('data.truncated_jpeg', ONE_LINE, refused(_cut, 'is cut short')),
    Fault('data.zero_bytes', ONE_LINE, refused(_empty, 'is empty')),
    Fault('data.not_an_image', ONE_LINE, refused(_no_image, 'not an image')),
    Fault('data.unreadable', ONE_LINE, refused(_unreadable, 'cannot be read')),
    Fault('data.animated_gif_as_jpg', ONE_LINE, refused(_animation, 'is an animation')),
    Fault('data.missing_mask', ONE_LINE, refused(_missing_mask, 'images have no mask')),
    Fault('data.mask_of_other_size', ONE_LINE, refused(_other_size, 'both must have one size')),
    Fault('data.rgb_mask', ONE_LINE, refused(_rgb_mask, 'colours instead of labels')),
    Fault(
        'data.label_outside_classes', 'exit 1, one line with file, value, remedy', refused(_label, 'label 77')
    ),
    Fault('data.exif_turned_image', ONE_LINE, refused(_turned, 'EXIF orientation')),
    Fault('data.empty_folder', ONE_LINE, refused(_empty_folder, 'no file at all')),
    Fault('data.unusual_images', 'grey, CMYK, RGBA, 16-bit: trains to the end', unusual_images),
    Fault('data.bounded_skip', 'trains to the end, the file is named once', skipped),
    Fault(
        'data.bound_exceeded',
        'exit 1, one line with the bound',
        refused(
            lambda data: (_cut(data), image_of(data, 4).write_bytes(b''))[0].parent,
            'max_bad_samples=1',
            f'{SKIP}=1',
        ),
    ),
    Fault('data.skip_and_resume', 'all weights equal bit by bit', skipped_on_resume),
    Fault('data.check_data_faulty', 'exit 1, every fault found once', checked),
    Fault('data.check_data_sound', 'exit 0', sound),
)
