"""One HTML page on a training, with all that it shows inside."""

import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import jinja2
import numpy as np

from dpt.evaluation import Scores, segmentation_metrics
from dpt.evaluation.scores import order_by_score

from .confusion import draw_class_bars, draw_confusion, worst_confusions
from .curves import draw_curves
from .logs import RunLog, read_run
from .report_template import PAGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDEST = 1600
"""Pixels that a picture is shrunken to, so that the page stays small."""
QUALITY = 85
FOLLOWED = re.compile(r'val_(.+)_(\d+)\.png')
STEPS_SHOWN = 4


def inline_figure(figure: 'Figure') -> str:
    """Return a figure as a ``data:`` address."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100)
    return _data_address('png', buffer.getvalue())


def inline_picture(path: Path) -> str:
    """Return a picture as a ``data:`` address, no wider than ``WIDEST``.

    Raises:
        ValueError: If it cannot be read.
    """
    content = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    if picture is None:
        raise ValueError(f'{path}: not a picture that can be read')
    if picture.shape[1] > WIDEST:
        size = (WIDEST, round(picture.shape[0] * WIDEST / picture.shape[1]))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return _data_address('jpeg', jpeg.tobytes())


def _data_address(kind: str, content: bytes) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def make_report(
    work_dir: str | Path,
    *,
    scores_file: str | Path | None = None,
    pictures: str | Path | None = None,
    number: int = 5,
) -> str:
    """Write a page on a training.

    Args:
        work_dir: Work directory of the training.
        scores_file: What ``tools/test.py --scores`` wrote; None for ``scores.npz`` in the work directory, and
            for a page without scores where there is none.
        pictures: Folder of ``tools/test.py --show-dir``; None for ``show`` in the work directory.
        number: How many of the worst and of the best images are shown.

    Returns:
        The HTML; it fetches nothing.

    Raises:
        FileNotFoundError: If there is no log, or a file or folder that was named is not there.
        ValueError: If a file is not what it should be.
    """
    work_dir = Path(work_dir)
    run = read_run(work_dir)
    run.name = work_dir.resolve().name
    scores = _scores(work_dir, scores_file)
    folder = Path(pictures) if pictures is not None else work_dir / 'show'
    if pictures is not None and not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder: tools/test.py --show-dir writes it')
    # That of the training: a test in the same folder writes one, too.
    config = run.sessions[-1].with_name('config.py')
    config_file = config if config.is_file() else _newest(work_dir, '*.py')
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(PAGE)
    return page.render(
        title=run.name,
        cards=_cards(run, scores),
        facts=_facts(work_dir, run),
        curves=inline_figure(draw_curves([run])),
        scores_file=scores_file or 'scores.npz',
        **_classes(scores, work_dir),
        **_images(scores, folder, number),
        followed=_followed(work_dir),
        config=config_file.read_text(encoding='utf-8') if config_file else '',
        config_file=str(config_file.relative_to(work_dir)) if config_file else '',
    )


def _scores(work_dir: Path, path: str | Path | None) -> Scores | None:
    default = work_dir / 'scores.npz'
    if path is None and not default.is_file():
        return None
    return Scores.load(default if path is None else path)


def _newest(folder: Path, pattern: str) -> Path | None:
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime, default=None)


def _cards(run: RunLog, scores: Scores | None) -> list[tuple[str, str]]:
    cards = []
    if scores is not None:
        iou = segmentation_metrics(scores.confusion)['IoU']
        cards.append(('mIoU of the test', f'{100 * np.nanmean(iou):.2f}'))
    for name, value in run.summary().items():
        if value is not None:
            label = name.replace('mIoU', 'mIoU of validation')
            cards.append((label, f'{value:.2f}' if 'mIoU' in name else f'{value:.4g}'))
    return cards


def _facts(work_dir: Path, run: RunLog) -> list[tuple[str, Any]]:
    for path in sorted(work_dir.glob('run_info_*.json'), reverse=True):  # they bear the time
        info = _read_info(path)
        if 'test.py' not in info['command'].split(' ')[0]:  # a test in the same folder writes one, too
            return [*info.items(), ('sessions', len(run.sessions))]
    return []


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info = json.loads(path.read_text(encoding='utf-8'))
        facts = {key: info[key] for key in ('time', 'seed', 'git_commit', 'device', 'processes')}
        command, versions = ' '.join(info['command']), info['versions'].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path}: not what a training writes ({error!r}): remove the file') from None
    joined = ', '.join(f'{name} {version}' for name, version in versions)
    return dict(command=command, **facts, versions=joined)


def _classes(scores: Scores | None, work_dir: Path) -> dict:
    if scores is None:
        how = f'tools/test.py CONFIG CHECKPOINT --scores {work_dir}/scores.npz --show-dir {work_dir}/show'
        return dict(classes=[], no_scores=f'No test has been read: {how} writes what belongs here.')
    found = segmentation_metrics(scores.confusion)
    pixels = scores.confusion.sum(axis=1)
    columns = [100 * pixels / max(pixels.sum(), 1), 100 * found['IoU'], 100 * found['Acc']]
    rows = [[name, *(_number(column[k]) for column in columns)] for k, name in enumerate(scores.classes)]
    rows.append(['mean', '', *(_number(np.nanmean(column)) for column in columns[1:])])
    return dict(
        classes=rows,
        scored=len(scores.images),
        confusions=worst_confusions(scores.confusion, scores.classes),
        matrix=inline_figure(draw_confusion(scores.confusion, scores.classes)),
        bars=inline_figure(draw_class_bars(scores.classes, columns[1].tolist())),
    )


def _number(value: float) -> str:
    return '-' if np.isnan(value) else f'{value:.2f}'


def _images(scores: Scores | None, folder: Path, number: int) -> dict:
    if scores is None:
        return dict(images=[], no_pictures='They are chosen by the scores of a test.')
    order = order_by_score(scores.miou)
    worst = order[:number]
    best = [i for i in reversed(order) if i not in worst][:number]
    groups = [('Worst by mIoU', worst), ('Best by mIoU', best)]
    images = [(heading, [_image(scores, i, folder) for i in places]) for heading, places in groups if places]
    without = sum(not row['picture'] for _, rows in images for row in rows)
    missing = f'{folder} lacks {without} of the pictures: tools/test.py --show-dir writes them.'
    return dict(images=images, no_pictures=missing if without else '')


def _image(scores: Scores, i: int, folder: Path) -> dict[str, str]:
    path = folder / f'{Path(scores.images[i]).stem}.png'
    return dict(
        name=Path(scores.images[i]).name,
        miou=_number(scores.miou[i]),
        accuracy=_number(scores.accuracy[i]),
        picture=inline_picture(path) if path.is_file() else '',
    )


def _followed(work_dir: Path) -> list[tuple[str, list[tuple[int, str]]]]:
    """The pictures of each image that validation drew, spread over its steps, the last included."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(work_dir.glob('*/vis_data/vis_image/val_*.png')):
        match = FOLLOWED.fullmatch(path.name)
        if match:
            found.setdefault(match[1], {})[int(match[2])] = path  # of a step done over, the later session's
    return [
        (name, [(step, inline_picture(paths[step])) for step in spread_steps(sorted(paths))])
        for name, paths in sorted(found.items())
    ]


def spread_steps(steps: Sequence[int], number: int = STEPS_SHOWN) -> list[int]:
    """Return up to ``number`` of the steps, spread evenly, the first and the last among them."""
    if len(steps) <= number:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (number - 1))] for i in range(number)]
