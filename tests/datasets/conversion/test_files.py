"""Whatever has its name is complete."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dpt.extras.conversion.files import read_lines, write_bytes, write_lines, write_mask


def test_a_mask_comes_back_as_written(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_mask(tmp_path / 'new' / 'a.png', labels)
    assert (cv2.imread(str(tmp_path / 'new' / 'a.png'), cv2.IMREAD_UNCHANGED) == labels).all()
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['a.png']


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    write_bytes(tmp_path / 'a', b'old')

    def fail(*_):
        raise OSError('no space')

    monkeypatch.setattr('os.replace', fail)
    with pytest.raises(OSError, match='no space'):
        write_bytes(tmp_path / 'a', b'new')
    assert [path.name for path in tmp_path.iterdir()] == ['a']
    assert (tmp_path / 'a').read_bytes() == b'old'


def test_only_labels_are_masks(tmp_path: Path) -> None:
    for labels in (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.float32)):
        with pytest.raises(ValueError, match='HxW uint8'):
            write_mask(tmp_path / 'a.png', labels)


def test_lines(tmp_path: Path) -> None:
    write_lines(tmp_path / 'a.txt', ['one', 'two'])
    assert (tmp_path / 'a.txt').read_text() == 'one\ntwo\n'
    assert read_lines(tmp_path / 'a.txt') == ['one', 'two']
    with pytest.raises(FileNotFoundError, match='b.txt does not exist'):
        read_lines(tmp_path / 'b.txt')
