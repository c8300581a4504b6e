"""The HTML page on a training, read by a parser and shown by a real browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from dpt.evaluation import Scores
from dpt.extras.report.page import make_report, spread_steps

IMAGES = [f'{name}.jpg' for name in 'abcdef']
MIOU = [50.0, 10.0, 90.0, np.nan, 30.0, 70.0]


@pytest.fixture
def work_dir(tmp_path):
    work_dir = tmp_path / 'my <run> & more'
    logs = work_dir / '20260101_000000/vis_data'
    (logs / 'vis_image').mkdir(parents=True)
    lines = [dict(step=10 * i, loss=3.0 / i, lr=0.1, images_per_s=5.0, time=1.0) for i in range(1, 11)]
    lines.append(dict(step=100, mIoU=42.5))
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    for step in range(10, 101, 10):
        cv2.imwrite(str(logs / f'vis_image/val_street_1_{step}.png'), np.full((20, 60, 3), step, np.uint8))
    (logs / 'config.py').write_text('text = \'<script>document.body.innerHTML = "run"</script>\'\n')
    info = dict(command=['tools/train.py', 'config.py'], time='2026-01-01', seed=3, git_commit='abc')
    info.update(versions=dict(torch='2'), device='CPU', processes=1)
    (work_dir / 'run_info_1.json').write_text(json.dumps(info))
    of_a_test = json.dumps(dict(info, command=['tools/test.py', 'other.py']))
    (work_dir / 'run_info_2.json').write_text(of_a_test)
    (work_dir / 'config.py').write_text('of_a_test = 1\n')
    return work_dir


@pytest.fixture
def tested(work_dir):
    confusion = np.array([[90, 10, 0], [30, 20, 0], [0, 0, 0]])
    scores = Scores(['sky', 'r<o>ad', 'never'], confusion, IMAGES, np.arange(6.0), np.array(MIOU))
    scores.save(work_dir / 'scores.npz')
    (work_dir / 'show').mkdir()
    for name in IMAGES:
        cv2.imwrite(str(work_dir / f'show/{name[0]}.png'), np.full((30, 2000, 3), 80, np.uint8))
    return work_dir


class Page(HTMLParser):
    """Collects addresses, texts and whether tags are closed in order."""

    def __init__(self, html):
        super().__init__()
        self.sources, self.alts, self.open, self.text, self.scripts = [], [], [], '', 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.sources += [values[key] for key in ('src', 'href') if key in values]
        self.alts += [values['alt']] if 'alt' in values else []
        self.scripts += tag == 'script'
        if tag not in ('img', 'meta'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_page_is_whole_and_fetches_nothing(tested):
    html = make_report(tested, number=2)
    page = Page(html)
    assert page.open == []
    assert all(re.match(r'data:image/(png|jpeg);base64,|#', source) for source in page.sources)
    assert not page.scripts
    assert "default-src 'none'" in html
    assert 'url(' not in html
    for text in ('my <run> & more', 'r<o>ad', 'innerHTML', '42.50', 'tools/train.py config.py', 'torch 2'):
        assert text in page.text
    assert 'other.py' not in page.text
    assert 'of_a_test' not in page.text
    rows = re.findall(r'<tr[^>]*><td>(.*?)</td>\s*<td>(.*?)</td>\s*<td>(.*?)</td>', html)
    assert ('sky', '66.67', '69.23') in rows
    assert ('mean', '', '51.28') in rows


def test_worst_and_best_images_are_chosen_by_their_score(tested):
    page = Page(make_report(tested, number=2))
    assert [name for name in page.alts if name in IMAGES] == ['b.jpg', 'e.jpg', 'c.jpg', 'f.jpg']
    few = Page(make_report(tested, number=4))  # five have a score, and none is shown twice
    assert [name for name in few.alts if name in IMAGES] == ['b.jpg', 'e.jpg', 'a.jpg', 'f.jpg', 'c.jpg']
    (tested / 'show/b.png').unlink()
    assert 'lacks 1 of the pictures' in Page(make_report(tested, number=2)).text


def test_validation_images_are_followed_over_time(work_dir):
    alts = [name for name in Page(make_report(work_dir)).alts if 'iteration' in name]
    assert alts == [f'street_1 at iteration {step}' for step in (10, 40, 70, 100)]
    assert spread_steps([5, 6]) == [5, 6]


def test_without_a_test_it_is_said_how_to_make_one(work_dir):
    text = Page(make_report(work_dir)).text
    assert 'tools/test.py CONFIG CHECKPOINT --scores' in text
    shutil.rmtree(work_dir / '20260101_000000/vis_data/vis_image')
    assert 'No pictures: set' in Page(make_report(work_dir)).text


def test_files_that_were_named_must_be_there(tested):
    with pytest.raises(FileNotFoundError, match='--scores'):
        make_report(tested, scores_file=tested / 'gone.npz')
    with pytest.raises(FileNotFoundError, match='--show-dir'):
        make_report(tested, pictures=tested / 'gone')
    content = (tested / 'show/b.png').read_bytes()
    (tested / 'show/b.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'b\.png: cannot be read as a picture'):
        make_report(tested)
    (tested / 'show/b.png').write_bytes(content)
    (tested / 'run_info_2.json').write_text('{}')
    with pytest.raises(ValueError, match=r'run_info_2\.json'):
        make_report(tested)


def test_a_browser_shows_it(tested, tmp_path):
    browser = shutil.which('chromium')
    if browser is None:
        pytest.skip('chromium is absent: this test needs a browser')
    page, shot = tmp_path / 'report.html', tmp_path / 'shot.png'
    page.write_text(make_report(tested), encoding='utf-8')
    options = '--headless --no-sandbox --disable-gpu --disable-background-networking --window-size=1280,2600'
    command = [browser, *options.split(), f'--user-data-dir={tmp_path / "profile"}']
    dumped = subprocess.run(
        [*command, f'--screenshot={shot}', page.as_uri()], capture_output=True, text=True, timeout=120
    )
    picture = cv2.imread(str(shot))
    assert picture is not None, dumped.stderr[-2000:]
    assert picture.shape[1] == 1280
    # The figures are there, not their alternative texts: the matrix has its blues, the bars theirs.
    blue = np.array([165, 110, 59])  # BGR of the bars
    assert (np.abs(picture.astype(int) - blue).max(axis=-1) < 12).sum() > 1000
