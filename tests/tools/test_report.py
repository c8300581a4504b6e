"""``tools/report.py`` on a training."""

import threading
import time

from dpt.engine.work_dir import locked_work_dir


def test_report_of_a_training(call, trained, tmp_path):
    out = tmp_path / 'report.html'
    status, printed, _ = call('report', trained, '--out', out)
    assert status == 0
    assert str(out) in printed
    html = out.read_text(encoding='utf-8')
    assert html.count('<figure>') >= 4  # validation drew four images
    assert 'num_layers=4' in html


def test_watched_report_is_refreshed_until_the_training_ends(call, trained, tmp_path):
    out, seen = tmp_path / 'report.html', []

    def train() -> None:
        with locked_work_dir(trained):
            locked.set()
            while not out.exists():
                time.sleep(0.05)
            seen.append(out.read_text(encoding='utf-8'))

    locked = threading.Event()
    training = threading.Thread(target=train)
    training.start()
    locked.wait()
    status, printed, _ = call('report', trained, '--out', out, '--watch', 60)
    training.join()
    assert (status, printed.count('\n')) == (0, 2)
    assert '<meta http-equiv="refresh" content="60">' in seen[0]
    assert 'left, after the last line' in seen[0]
    assert 'http-equiv="refresh"' not in out.read_text(encoding='utf-8')
    assert call('report', trained, '--watch', 0)[0] == 1
