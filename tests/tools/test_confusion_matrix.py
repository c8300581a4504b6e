"""``tools/confusion_matrix.py`` as a user runs it."""

import cv2
import numpy as np

from dpt.evaluation import Scores


def test_figures_and_table(call, tmp_path):
    confusion = np.array([[90, 10], [30, 20]])
    Scores(['sky', 'road'], confusion, [], np.zeros(0), np.zeros(0)).save(tmp_path / 'scores.npz')
    out, bars = tmp_path / 'confusion.png', tmp_path / 'iou.png'
    options = ('--out', out, '--iou-out', bars, '--normalize', 'prediction')
    status, printed, _ = call('confusion_matrix', tmp_path / 'scores.npz', *options)
    assert status == 0
    assert printed.splitlines()[1].split() == ['road', 'sky', '60.00', '75.00']
    assert cv2.imread(str(out)).std() > 5
    assert cv2.imread(str(bars)).std() > 5
