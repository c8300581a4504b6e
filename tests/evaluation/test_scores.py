"""The file of what an evaluation counted; two processes: test_iou.py."""

import numpy as np
import pytest
import torch
from oracle import CLASSES, K, maps, metric, sample

from dpt.evaluation import IoUMetric, Scores, confusion_matrix, segmentation_metrics
from dpt.evaluation.scores import image_scores, order_by_score


def evaluate(count, **arguments):
    counted = metric(**arguments)
    counted.process(None, [sample(*maps(seed), path=f'/x/{seed}.png') for seed in range(count)])
    return counted.evaluate(count)


def test_file_holds_matrix_and_image_scores(tmp_path):
    path = tmp_path / 'new/scores.npz'
    evaluate(3, scores_file=str(path))  # which the next evaluation replaces
    assert evaluate(5, scores_file=str(path)) == evaluate(5)
    scores = Scores.load(path)
    assert scores.classes == list(CLASSES)
    assert scores.images == [f'/x/{seed}.png' for seed in range(5)]
    single = [confusion_matrix(*map(torch.tensor, maps(seed)), K) for seed in range(5)]
    np.testing.assert_array_equal(scores.confusion, torch.stack(single).sum(dim=0))
    for i, counts in enumerate(single):
        expected = segmentation_metrics(counts)
        assert scores.accuracy[i] == pytest.approx(100 * expected['aAcc'])
        assert scores.miou[i] == pytest.approx(100 * np.nanmean(expected['IoU']))
    assert list(path.parent.iterdir()) == [path]


def test_image_without_label_has_no_score():
    assert torch.isnan(image_scores(torch.zeros(3, 3, dtype=torch.int64))).all()
    assert order_by_score([3.0, np.nan, 1.0, 2.0]) == [2, 3, 0]


def test_bad_names_and_files_raise(tmp_path):
    with pytest.raises(ValueError, match=r'\.npz'):
        IoUMetric(scores_file='scores.txt')
    with pytest.raises(FileNotFoundError, match='--scores'):
        Scores.load(tmp_path / 'gone.npz')
    (tmp_path / 'bad.npz').write_bytes(b'PK no archive')
    np.savez(tmp_path / 'other.npz', x=np.zeros(3))
    np.savez(tmp_path / 'pickle.npz', classes=np.array([{}], dtype=object))
    for name in ('bad', 'other', 'pickle'):
        with pytest.raises(ValueError, match=rf'{name}\.npz: not a file'):
            Scores.load(tmp_path / f'{name}.npz')
