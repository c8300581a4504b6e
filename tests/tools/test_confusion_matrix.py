"""``tools/confusion_matrix.py`` as a user runs it."""

import cv2
import numpy as np

from dpt.evaluation import Scores


def test_figures_and_table(tool_main, tmp_path, capsys):
    confusion = np.array([[90, 10], [30, 20]])
    Scores(['sky', 'road'], confusion, [], np.zeros(0), np.zeros(0)).save(tmp_path / 'scores.npz')
    main = tool_main('tools/confusion_matrix.py')
    out, bars = tmp_path / 'confusion.png', tmp_path / 'iou.png'
    assert main(tmp_path / 'scores.npz', '--out', out, '--iou-out', bars, '--normalize', 'prediction') == 0
    first = capsys.readouterr().out.splitlines()[1].split()
    assert first == ['road', 'sky', '60.00', '75.00']
    assert cv2.imread(str(out)).std() > 5
    assert cv2.imread(str(bars)).std() > 5
    assert main(tmp_path / 'gone.npz') == 1
    assert 'tools/test.py --scores' in capsys.readouterr().err
