"""The file of what an evaluation counted."""

import numpy as np
import pytest
import torch

from dpt.evaluation import IoUMetric, Scores, confusion_matrix, segmentation_metrics
from dpt.evaluation.scores import image_scores, order_by_score

CLASSES = ('sky', 'road', 'car', 'never')


def samples(count=5, seed=0):
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        truth = random.choice([0, 1, 2, 255], size=(1, 6, 7)).astype(np.uint8)
        prediction = np.where(random.random((1, 6, 7)) < 0.3, random.integers(0, 3, (1, 6, 7)), truth % 3)
        found.append(
            dict(
                img_path=f'/x/{i}.png',
                gt_sem_seg=dict(data=torch.from_numpy(truth)),
                pred_sem_seg=dict(data=torch.from_numpy(prediction.astype(np.uint8))),
            )
        )
    return found


def evaluate(path, found):
    metric = IoUMetric(scores_file=None if path is None else str(path))
    metric.dataset_meta = dict(classes=CLASSES)
    for i in range(0, len(found), 2):
        metric.process(None, found[i : i + 2])
    return metric.evaluate(len(found))


def test_file_holds_matrix_and_image_scores(tmp_path):
    found = samples()
    means = evaluate(tmp_path / 'new/scores.npz', found)
    assert means == evaluate(None, found)
    scores = Scores.load(tmp_path / 'new/scores.npz')
    assert scores.classes == list(CLASSES)
    assert scores.images == [f'/x/{i}.png' for i in range(5)]
    single = [
        confusion_matrix(one['pred_sem_seg']['data'][0], one['gt_sem_seg']['data'][0], 4) for one in found
    ]
    np.testing.assert_array_equal(scores.confusion, torch.stack(single).sum(dim=0))
    for i, counts in enumerate(single):
        expected = segmentation_metrics(counts)
        assert scores.accuracy[i] == pytest.approx(100 * expected['aAcc'])
        assert scores.miou[i] == pytest.approx(100 * np.nanmean(expected['IoU']))
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['scores.npz']


def test_second_evaluation_replaces_file(tmp_path):
    metric = IoUMetric(scores_file=str(tmp_path / 'scores.npz'))
    metric.dataset_meta = dict(classes=CLASSES)
    for count in (3, 2):
        metric.process(None, samples(count))
        metric.evaluate(count)
        assert len(Scores.load(tmp_path / 'scores.npz').images) == count


def test_images_of_all_processes_are_in_the_file_once(tmp_path, monkeypatch):
    other = (['/y/9.png'], torch.tensor([[50.0, 25.0]], dtype=torch.float64))
    monkeypatch.setattr('dpt.evaluation.iou.all_gather_object', lambda own: [own, other])
    evaluate(tmp_path / 'scores.npz', samples(2))
    scores = Scores.load(tmp_path / 'scores.npz')
    assert scores.images == ['/x/0.png', '/x/1.png', '/y/9.png']
    assert scores.accuracy[2] == 50
    assert scores.miou[2] == 25


def test_image_without_label_has_no_score():
    assert torch.isnan(image_scores(torch.zeros(3, 3, dtype=torch.int64))).all()
    assert order_by_score([3.0, np.nan, 1.0, 2.0]) == [2, 3, 0]


def test_bad_names_and_files_raise(tmp_path):
    with pytest.raises(ValueError, match=r'\.npz'):
        IoUMetric(scores_file='scores.txt')
    with pytest.raises(FileNotFoundError, match='--scores'):
        Scores.load(tmp_path / 'gone.npz')
    (tmp_path / 'bad.npz').write_bytes(b'PK no archive')
    with pytest.raises(ValueError, match=r'bad\.npz: not a file'):
        Scores.load(tmp_path / 'bad.npz')
    np.savez(tmp_path / 'other.npz', x=np.zeros(3))
    with pytest.raises(ValueError, match=r'other\.npz: not a file'):
        Scores.load(tmp_path / 'other.npz')
    np.savez(tmp_path / 'pickle.npz', classes=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r'pickle\.npz: not a file'):
        Scores.load(tmp_path / 'pickle.npz')
