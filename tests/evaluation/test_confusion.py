"""The confusion matrix and the scores read from it."""

import numpy as np
import pytest
import torch
import torchmetrics
from oracle import K, maps, oracle

from dpt.evaluation import confusion_matrix, segmentation_metrics


@pytest.mark.parametrize('beta', [1, 2])
def test_scores_equal_oracle(beta):
    pairs = [maps(seed) for seed in range(3)]
    confusion = sum(confusion_matrix(torch.tensor(p), torch.tensor(t), K) for p, t in pairs)
    scores = segmentation_metrics(confusion, ('mIoU', 'mDice', 'mFscore'), beta)
    expected = oracle(pairs, beta=beta)
    assert scores.keys() == expected.keys()
    for name, values in scores.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-14, err_msg=name)
    assert np.isnan(scores['IoU'][4])
    assert np.isnan(scores['Acc'][2])
    assert scores['IoU'][2] == 0


def test_rows_are_the_truth():
    confusion = confusion_matrix(torch.tensor([[1, 1, 2, 0]]), torch.tensor([[0, 0, 2, 255]]), 3)
    assert confusion.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]
    assert confusion.dtype == torch.int64


@pytest.mark.parametrize('pred_dtype', [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize('label_dtype', [torch.uint8, torch.int16, torch.uint16, torch.int64])
@pytest.mark.parametrize('ignore_index', [255, 1, 300])
def test_any_integer_dtype_counts_the_same(pred_dtype, label_dtype, ignore_index):
    prediction, label = (torch.tensor(values) for values in maps())
    label[label == 255] = ignore_index if ignore_index < 256 else 0
    expected = confusion_matrix(prediction, label, K, ignore_index)
    assert confusion_matrix(prediction.to(pred_dtype), label.to(label_dtype), K, ignore_index).equal(expected)
    assert expected.sum() == (label != ignore_index).sum()


def test_150_classes_in_uint8_do_not_wrap():
    labels = torch.full((2, 3), 149, dtype=torch.uint8)
    assert confusion_matrix(labels, labels, 150)[149, 149] == 6


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64])
def test_values_outside_classes_raise(dtype):
    good = torch.zeros(2, 3, dtype=dtype)
    for place in (0, 255):  # beside a label and beside a pixel without one
        label, bad = torch.full((2, 3), place, dtype=dtype), good.clone()
        bad[1, 2] = K + 2
        with pytest.raises(ValueError, match=rf'predicted values \[{K + 2}\]'):
            confusion_matrix(bad, label, K)
    bad[0, 0] = K
    with pytest.raises(ValueError, match=rf'label values \[{K}, {K + 2}\]'):
        confusion_matrix(good, bad, K)
    with pytest.raises(ValueError, match=r'19\] and 20 more'):
        confusion_matrix(torch.zeros(1, 30, dtype=dtype), torch.arange(10, 40, dtype=dtype)[None], 3)


def test_torchmetrics_agrees():
    generator = torch.Generator().manual_seed(0)
    prediction, label = torch.randint(0, K, (2, 20, 30), generator=generator)
    label[:4] = 255
    confusion = confusion_matrix(prediction, label, K)
    scores = segmentation_metrics(confusion, ('mIoU', 'mFscore'), beta=2)
    common = dict(num_classes=K, ignore_index=255, average='none')
    expected = {
        'IoU': torchmetrics.JaccardIndex('multiclass', **common),
        'Precision': torchmetrics.Precision('multiclass', **common),
        'Recall': torchmetrics.Recall('multiclass', **common),
        'Fscore': torchmetrics.FBetaScore('multiclass', beta=2.0, **common),
    }
    for name, reference in expected.items():
        np.testing.assert_allclose(scores[name], reference(prediction, label).numpy(), rtol=1e-6)
    matrix = torchmetrics.ConfusionMatrix('multiclass', num_classes=K, ignore_index=255)
    assert confusion.equal(matrix(prediction, label))
