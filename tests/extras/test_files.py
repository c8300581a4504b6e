"""Files that the tools find and write."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dpt.extras.files import check_figure_file, check_picture_file, find_files, write_labels, write_lines


def names(source: str | Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path, root in find_files(source)]


def test_folders_and_patterns_are_searched_in_order(tmp_path: Path) -> None:
    for name in (
        'b.png',
        'a.JPG',
        'below/c.jpg',
        'clip.mp4',
        'notes.txt',
        '.hidden.png',
        '.ipynb_checkpoints/d.png',
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ['a.JPG', 'b.png', 'below/c.jpg', 'clip.mp4']
    assert names(f'{tmp_path}/**/*.jpg') == ['below/c.jpg']
    assert names(tmp_path / 'notes.txt') == ['notes.txt']  # a file named by itself may have any suffix


def test_finding_nothing_is_an_error(tmp_path: Path) -> None:
    for source in (tmp_path, f'{tmp_path}/*.webp'):
        with pytest.raises(FileNotFoundError, match='no images or videos found'):
            find_files(source)
    with pytest.raises(FileNotFoundError, match='gone does not exist'):
        find_files('gone')


@pytest.mark.parametrize('dtype', [np.uint8, np.int16])
def test_labels_are_read_back(tmp_path: Path, dtype: type) -> None:
    labels = np.arange(6, dtype=dtype).reshape(2, 3)
    write_labels(tmp_path / 'new' / 'a.png', labels)
    assert np.array_equal(cv2.imread(str(tmp_path / 'new' / 'a.png'), cv2.IMREAD_UNCHANGED), labels)


def test_lines_are_read_back(tmp_path: Path) -> None:
    write_lines(tmp_path / 'new' / 'a.txt', ['one', 'two'])
    assert (tmp_path / 'new' / 'a.txt').read_text() == 'one\ntwo\n'


def test_names_of_pictures_are_checked(tmp_path: Path) -> None:
    check_picture_file(tmp_path / 'a.PNG')
    check_figure_file(tmp_path / 'a.pdf')
    for check, name in ((check_picture_file, 'a.pdf'), (check_figure_file, 'a.xyz')):
        with pytest.raises(ValueError, match='must end in one of'):
            check(tmp_path / name)
    with pytest.raises(FileNotFoundError, match='the folder does not exist'):
        check_picture_file(tmp_path / 'gone' / 'a.png')
