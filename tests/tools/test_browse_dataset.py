"""``tools/browse_dataset.py`` as a user runs it."""

import cv2
import numpy as np


def test_sheet_repeats_with_the_seed_and_changes_with_it(tool_main, tiny_config, tmp_path, capsys):
    main = tool_main('tools/browse_dataset.py')
    sheets = []
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        out = tmp_path / f'{name}.png'
        assert main(tiny_config, '--number', 3, '--out', out, '--seed', seed) == 0
        sheets.append(cv2.imread(str(out)))
    np.testing.assert_array_equal(sheets[0], sheets[1])
    assert sheets[0].shape[1] == sheets[2].shape[1]
    assert sheets[0].shape != sheets[2].shape or (sheets[0] != sheets[2]).any()
    assert main(tiny_config, '--split', 'val', '--number', 50, '--out', tmp_path / 'val.png') == 0
    assert 'val.png' in capsys.readouterr().out


def test_mistakes_end_in_a_line(tool_main, tiny_config, tmp_path, capsys):
    main = tool_main('tools/browse_dataset.py')
    for arguments, message in (
        (['--number', 0], '1 or more'),
        (['--out', tmp_path / 'x.pdf'], 'must end in one of'),
        (['--cfg-options', 'train_dataloader.dataset.data_root=gone'], 'gone'),
    ):
        assert main(tiny_config, '--out', tmp_path / 'x.png', *arguments) == 1
        assert message in capsys.readouterr().err
