"""Errors of unreadable config files: one line, with file and line number."""

from pathlib import Path

import pytest

from dpt.config.load import read_config


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.py', 'x = 1\ny = x / 0\n', r'a\.py, or a base of it, line 2: y = x / 0: ZeroDivisionError: div'),
        ('b.py', 'model = dict(type=Foo)\n', r"b\.py.*line 1: .*: NameError: name 'Foo' is not defined"),
        ('c.py', 'model = dict(\n', r"c\.py or a base of it, line 1: '\(' was never closed: model = dict"),
        (
            'f.py',
            "import os\nx = os.path.join(None, '')\n",
            r'f\.py.*line 2: x = os\.path\.join.*: TypeError',
        ),
        ('d.jpg', 'no config', r'd\.jpg: Only py/yml/yaml/json type are supported'),
        ('e.json', '{', r'e\.json: '),
    ],
)
def test_a_mistake_is_reported_with_file_and_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_config(str(tmp_path / name))


def test_modules_of_python_are_available_before_the_base(tmp_path: Path) -> None:
    (tmp_path / 'base.py').write_text('size = 4\n')
    (tmp_path / 'a.py').write_text("import os\n_base_ = ['base.py']\nfolder = os.path.join('data', 'ade')\n")
    config = read_config(str(tmp_path / 'a.py'))
    assert (config.size, config.folder) == (4, 'data/ade')


def test_a_missing_base_raises_file_not_found(tmp_path: Path) -> None:
    (tmp_path / 'a.py').write_text("_base_ = ['gone.py']\n")
    with pytest.raises(FileNotFoundError, match='gone.py'):
        read_config(str(tmp_path / 'a.py'))
