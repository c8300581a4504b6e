"""Logs of trainings, resumed ones joined."""

import json

import numpy as np
import pytest

from dpt.extras.logs import read_run, table
from dpt.extras.report.figures import draw_curves, smooth


def train_line(step, loss, **more):
    return dict(dict(step=step, iter=step, loss=loss, lr=0.1, time=0.5, images_per_s=8.0, memory=100), **more)


def write_session(work_dir, name, lines, cut=''):
    folder = work_dir / name / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines) + cut)


@pytest.fixture
def resumed(tmp_path):
    """Killed while writing the line of iteration 40; went on from iteration 20; a test came after."""
    first = [
        train_line(10, 4.0),
        train_line(20, 3.0),
        dict(step=20, mIoU=30.0, time=9.0),
        train_line(30, 9.0),
    ]
    write_session(tmp_path, '20260101_000000', first, cut='{"step": 4')
    second = [
        train_line(30, 2.0, base_lr=0.3),
        train_line(40, 1.0, memory=120),
        dict(step=40, mIoU=20.0, time=9.0),
    ]
    write_session(tmp_path, '20260102_000000', second)
    write_session(tmp_path, '20260103_000000', [])
    return tmp_path


def test_sessions_are_joined_and_what_was_done_over_is_replaced(resumed):
    run = read_run(resumed)
    assert run.series('loss') == ([10, 20, 30, 40], [4.0, 3.0, 2.0, 1.0])
    assert run.series('mIoU') == ([20, 40], [30.0, 20.0])
    assert len(run.sessions) == 2


def test_a_training_from_the_start_replaces_the_one_before(resumed):
    write_session(resumed, '20260104_000000', [train_line(10, 7.0)])
    run = read_run(resumed)
    assert run.series('loss') == ([10], [7.0])
    assert run.series('mIoU') == ([], [])
    assert len(run.sessions) == 1


def test_summary_tells_best_last_and_typical(resumed):
    summary = read_run(resumed).summary()
    assert summary == {
        'iterations': 40,
        'loss': 2.5,
        'peak lr': 0.3,
        'best mIoU': 30.0,
        'at': 20,
        'last mIoU': 20.0,
        'images/s': 8.0,
        's/iteration': 0.5,  # not the 9 of validation
        'memory MiB': 120,
    }
    lines = table([read_run(resumed), read_run(resumed / '20260101_000000')]).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert '30.00' in lines[2]


def test_logs_with_the_phase_before_each_name(tmp_path):
    write_session(
        tmp_path, 'a', [{'train/loss': 1.5, 'train/lr': 1e-3, 'step': 5}, {'val/mIoU': 3, 'step': 5}]
    )
    run = read_run(tmp_path)
    assert run.series('loss') == ([5], [1.5])
    assert run.series('mIoU') == ([5], [3])
    assert run.summary()['images/s'] is None


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('no json\n{"step": 1, "loss": 2}\n', 'line 1: not a JSON object'),
        ('{"loss": 2}\n', 'line 1: not a JSON object with a step'),
        ('', 'no training iteration'),
        ('{"step": 1, "mIoU": 2}\n', 'no training iteration'),
    ],
)
def test_what_is_no_log_is_named(tmp_path, content, message):
    path = tmp_path / 'scalars.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_run(path)
    assert str(path) in str(caught.value)


def test_smooth_is_the_mean_over_a_centred_window():
    values = np.random.default_rng(0).normal(size=101)
    smoothed = smooth(values, 0.1)  # five to either side
    for i in range(101):
        reach = min(5, i, 100 - i)
        assert smoothed[i] == pytest.approx(values[i - reach : i + reach + 1].mean())
    np.testing.assert_allclose(smooth([1, np.nan, 3], 1.0)[1], 2)
    np.testing.assert_array_equal(smooth([5.0]), [5.0])


def test_curves_hold_what_was_logged(resumed):
    figure = draw_curves([read_run(resumed), read_run(resumed / '20260101_000000')])
    loss, _, score, speed = figure.axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), [4, 3, 2, 1])
    np.testing.assert_array_equal(loss.lines[2].get_ydata(), [4, 3, 9])
    np.testing.assert_array_equal(score.lines[0].get_xdata(), [20, 40])
    assert speed.get_ylim()[0] == 0
    assert len(figure.legends) == 1


def test_a_repeated_validation_by_epoch_stays_at_its_iteration(tmp_path) -> None:
    lines = [line for epoch in (1, 2, 3) for line in _epoch(epoch)]
    write_session(tmp_path, '20260101_000000', lines[:6])
    write_session(tmp_path, '20260102_000000', lines[5:])  # begins with the validation of the second epoch
    run = read_run(tmp_path)
    assert [line['step'] for line in run.train] == [1, 2, 3, 4, 5, 6]
    assert [(line['step'], line['mIoU']) for line in run.val] == [(2, 10.0), (4, 20.0), (6, 30.0)]


def _epoch(number: int) -> list[dict]:
    """Return the lines of an epoch of two iterations, whose validation is logged by epoch."""
    last = 2 * number
    return [
        *(train_line(step, 1.0, epoch=number) for step in (last - 1, last)),
        dict(step=number, mIoU=10.0 * number),
    ]
