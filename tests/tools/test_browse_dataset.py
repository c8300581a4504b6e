"""``tools/browse_dataset.py`` as a user runs it."""

import cv2
import numpy as np


def test_sheet_repeats_with_the_seed_and_changes_with_it(call, tiny_config, tmp_path):
    sheets = []
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        out = tmp_path / f'{name}.png'
        assert call('browse_dataset', tiny_config, '--number', 3, '--out', out, '--seed', seed)[0] == 0
        sheets.append(cv2.imread(str(out)))
    np.testing.assert_array_equal(sheets[0], sheets[1])
    assert sheets[0].shape[1] == sheets[2].shape[1]
    assert sheets[0].shape != sheets[2].shape or (sheets[0] != sheets[2]).any()
    arguments = ('--split', 'val', '--number', 50, '--out', tmp_path / 'val.png')
    status, printed, _ = call('browse_dataset', tiny_config, *arguments)
    assert status == 0
    assert 'val.png' in printed
