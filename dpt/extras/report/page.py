"""Create a self-contained HTML report of a training."""

import base64
import datetime
import html
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
from dpt.evaluation.scores import DepthScores, load_scores, order_by_score
from dpt.extras.logs import SCORES, RunLog, read_run
from dpt.extras.report.figures import draw_class_bars, draw_confusion, draw_curves, worst_confusions
from dpt.extras.report.template import PAGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDEST = 1600
"""Maximum width of a picture in pixels, to keep the page small."""
QUALITY = 85
FOLLOWED = re.compile(r'val_(.+)_(\d+)\.png')
STEPS_SHOWN = 4


def inline_figure(figure: 'Figure') -> str:
    """Return a figure as a ``data:`` URL."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100)
    return _data_address('png', buffer.getvalue())


def inline_picture(path: Path) -> str:
    """Return a picture as a ``data:`` URL, at most ``WIDEST`` pixels wide.

    Raises:
        ValueError: If it cannot be read.
    """
    content = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    if picture is None:
        raise ValueError(f'{path}: cannot be read as a picture')
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
    refresh: int | None = None,
) -> str:
    """Return an HTML report of a training without external resources.

    Args:
        work_dir: Work directory of the training.
        scores_file: Output of ``tools/test.py --scores``; None uses ``scores.npz`` in the work directory if
            it exists.
        pictures: Output folder of ``tools/test.py --show-dir``; None uses ``show`` in the work directory.
        number: Number of worst and of best images.
        refresh: Seconds after which the browser reloads the page of a training that runs.

    Raises:
        FileNotFoundError: If the log, or a given file or folder, does not exist.
        ValueError: If the content of a file is invalid.
    """
    work_dir = Path(work_dir)
    run = read_run(work_dir)
    run.name = work_dir.resolve().name
    default = work_dir / 'scores.npz'
    scores = load_scores(scores_file or default) if scores_file or default.is_file() else None
    folder = Path(pictures) if pictures is not None else work_dir / 'show'
    if pictures is not None and not folder.is_dir():
        raise FileNotFoundError(
            f'{folder}: the folder does not exist; create it with tools/test.py --show-dir'
        )
    # Prefer the config of the training session, because a test in the same folder also writes a config.
    config = run.sessions[-1].with_name('config.py')
    configs = sorted(work_dir.glob('*.py'), key=lambda path: path.stat().st_mtime)
    configs += [config] if config.is_file() else []
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(PAGE)
    return page.render(
        title=run.name,
        refresh=refresh,
        cards=_cards(run, scores, running=refresh is not None),
        facts=_facts(work_dir, run),
        curves=inline_figure(draw_curves([run])),
        scores_file=scores_file or 'scores.npz',
        **_classes(scores, work_dir),
        **_images(scores, folder, number),
        followed=_followed(work_dir),
        config=configs[-1].read_text(encoding='utf-8') if configs else '',
        config_file=str(configs[-1].relative_to(work_dir)) if configs else '',
    )


def waiting_page(reason: str, refresh: int) -> str:
    """Return a page that the browser reloads until the training has logged something."""
    return (
        f'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="{refresh}">'
        f'<title>waiting</title><p>No log yet: {html.escape(reason)}</p>'
    )


def _cards(run: RunLog, scores: Scores | DepthScores | None, running: bool) -> list[tuple[str, str]]:
    cards = []
    left = run.train[-1].get('eta') if running else None
    if left is not None:
        cards.append(('left, after the last line of the log', str(datetime.timedelta(seconds=int(left)))))
    if isinstance(scores, DepthScores):
        shown = [score for score in SCORES if score in scores.names]
        cards += [(f'{score} of the test', f'{np.nanmean(scores.column(score)):.4f}') for score in shown]
    elif scores is not None:
        iou = segmentation_metrics(scores.confusion, left_out=scores.left_out)['IoU']
        cards.append(('mIoU of the test', f'{100 * np.nanmean(iou):.2f}'))
    for name, value in run.summary().items():
        if value is not None:
            score = name.partition(' ')[2]
            label = f'{name} of validation' if score in SCORES else name
            cards.append((label, f'{value:.2f}' if 'mIoU' in name else f'{value:.4g}'))
    return cards


def _facts(work_dir: Path, run: RunLog) -> list[tuple[str, Any]]:
    for path in sorted(work_dir.glob('run_info_*.json'), reverse=True):  # names contain the time
        try:
            info = json.loads(path.read_text(encoding='utf-8'))
            facts = {key: info[key] for key in ('time', 'seed', 'git_commit', 'device', 'processes')}
            command = ' '.join(info['command'])
            versions = ', '.join(f'{name} {version}' for name, version in info['versions'].items())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'{path}: not written by a training ({error!r}); remove the file') from None
        if 'test.py' not in command.split(' ')[0]:  # a test in the same folder also writes such a file
            facts = dict(command=command, **facts, versions=versions, sessions=len(run.sessions))
            return list(facts.items())
    return []


def _classes(scores: Scores | DepthScores | None, work_dir: Path) -> dict:
    if scores is None:
        how = f'tools/test.py CONFIG CHECKPOINT --scores {work_dir}/scores.npz --show-dir {work_dir}/show'
        return dict(classes=[], depth=[], no_scores=f'No test results; create them with {how}')
    if isinstance(scores, DepthScores):
        means = [(name, f'{np.nanmean(scores.column(name)):.4f}') for name in scores.names]
        return dict(classes=[], depth=means, scored=len(scores.images))
    found = segmentation_metrics(scores.confusion, left_out=scores.left_out)
    pixels = scores.confusion.sum(axis=1)
    columns = [100 * pixels / max(pixels.sum(), 1), 100 * found['IoU'], 100 * found['Acc']]
    rows = [[name, *(_number(column[k]) for column in columns)] for k, name in enumerate(scores.classes)]
    rows.append(['mean', '', *(_number(np.nanmean(column)) for column in columns[1:])])
    return dict(
        classes=rows,
        depth=[],
        scored=len(scores.images),
        confusions=worst_confusions(scores.confusion, scores.classes),
        matrix=inline_figure(draw_confusion(scores.confusion, scores.classes)),
        bars=inline_figure(draw_class_bars(scores.classes, columns[1].tolist())),
    )


def _number(value: float) -> str:
    return '-' if np.isnan(value) else f'{value:.2f}'


def _images(scores: Scores | DepthScores | None, folder: Path, number: int) -> dict:
    if scores is None:
        return dict(images=[], no_pictures='Selecting these images requires the scores of a test.')
    name, values, more_is_better = 'mIoU', scores.miou if isinstance(scores, Scores) else None, True
    if isinstance(scores, DepthScores):
        name = next((one for one in SCORES if one in scores.names), scores.names[0])
        values, more_is_better = scores.column(name), SCORES.get(name, False)
    order = order_by_score(values)  # type: ignore[arg-type]
    order = order if more_is_better else order[::-1]
    worst = order[:number]
    best = [i for i in reversed(order) if i not in worst][:number]
    groups = [(f'Worst by {name}', worst), (f'Best by {name}', best)]
    images = [(heading, [_image(scores, i, folder) for i in places]) for heading, places in groups if places]
    without = sum(not row['picture'] for _, rows in images for row in rows)
    missing = f'{folder} lacks {without} of the pictures; create them with tools/test.py --show-dir'
    return dict(images=images, no_pictures=missing if without else '')


def _image(scores: Scores | DepthScores, i: int, folder: Path) -> dict[str, str]:
    path = folder / f'{Path(scores.images[i]).stem}.png'
    if isinstance(scores, DepthScores):
        figures = ', '.join(f'{name} {scores.column(name)[i]:.3f}' for name in SCORES if name in scores.names)
    else:
        figures = f'mIoU {_number(scores.miou[i])}, accuracy {_number(scores.accuracy[i])}'
    return dict(
        name=Path(scores.images[i]).name,
        figures=figures,
        picture=inline_picture(path) if path.is_file() else '',
    )


def _followed(work_dir: Path) -> list[tuple[str, list[tuple[int, str]]]]:
    """Return the pictures of each image that validations drew, at up to ``STEPS_SHOWN`` steps."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(work_dir.glob('*/vis_data/vis_image/val_*.png')):
        match = FOLLOWED.fullmatch(path.name)
        if match:
            found.setdefault(match[1], {})[int(match[2])] = path  # for a repeated step, the last session wins
    return [
        (name, [(step, inline_picture(paths[step])) for step in spread_steps(sorted(paths))])
        for name, paths in sorted(found.items())
    ]


def spread_steps(steps: Sequence[int]) -> list[int]:
    """Return up to ``STEPS_SHOWN`` evenly spaced steps, including the first and the last."""
    if len(steps) <= STEPS_SHOWN:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (STEPS_SHOWN - 1))] for i in range(STEPS_SHOWN)]
