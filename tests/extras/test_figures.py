"""Figures of a confusion matrix."""

import numpy as np
import pytest

from dpt.extras.report.figures import draw_class_bars, draw_confusion, shares, worst_confusions

CONFUSION = np.array([[90, 10, 0], [30, 20, 0], [0, 0, 0]])
CLASSES = ['sky', 'road', 'never']


def test_shares_are_of_truth_or_prediction():
    of_truth, of_prediction = shares(CONFUSION), shares(CONFUSION, 'prediction')
    np.testing.assert_allclose(of_truth[:2], [[90, 10, 0], [60, 40, 0]])
    np.testing.assert_allclose(of_prediction[:, :2], [[75, 100 / 3], [25, 200 / 3], [0, 0]])
    assert np.isnan(of_truth[2]).all()
    assert np.isnan(of_prediction[:, 2]).all()
    with pytest.raises(ValueError, match='truth'):
        shares(CONFUSION, 'all')


def test_rows_are_the_truth():
    axes = draw_confusion(CONFUSION, CLASSES).axes[0]
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): '90', (1, 0): '10', (0, 1): '60', (1, 1): '40'}  # (column, row)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('prediction', 'ground truth')
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES


def test_many_classes_are_drawn_without_numbers():
    figure = draw_confusion(np.eye(150, dtype=int), [f'class {k}' for k in range(150)])
    assert not figure.axes[0].texts


def test_bars_are_sorted_and_the_mean_leaves_absent_classes_out():
    axes = draw_class_bars(CLASSES, [40.0, 80.0, None]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['never', 'sky', 'road']
    assert [bar.get_width() for bar in axes.patches] == [0, 40, 80]
    assert axes.get_legend().get_texts()[0].get_text() == 'mean 60.00'
    assert draw_class_bars(CLASSES, [None, None, None]).axes[0].get_legend() is None


def test_worst_confusions_are_counted_in_pixels():
    pairs = worst_confusions(CONFUSION, CLASSES)
    assert [(pair[0], pair[1]) for pair in pairs] == [('road', 'sky'), ('sky', 'road')]
    np.testing.assert_allclose([pair[2:] for pair in pairs], [(60, 75), (10, 25)])
