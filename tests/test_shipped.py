"""Where configs and tools are found."""

from pathlib import Path

import pytest

import dpt
from dpt.config.load import find_config, load_config, shipped


def test_a_checkout_has_them_beside_the_package(repository: Path) -> None:
    assert shipped('configs') == repository / 'configs'
    assert shipped('tools') == repository / 'tools'


@pytest.mark.parametrize('name', ['quickstart.py', 'configs/quickstart.py'])
def test_a_config_is_found_by_name_from_any_folder(
    name: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == str(repository / 'configs' / 'quickstart.py')
    assert load_config(name).max_iters == 700
    Path('configs').mkdir()
    Path(name).write_text('mine = 1\n')  # which goes before the one that comes with dpt
    assert find_config(name) == name


@pytest.mark.parametrize('name', ['nothing.py', '../setup.py', '/nowhere/quickstart.py'])
def test_any_other_name_is_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match='the configs of dpt are in'):
        find_config(name)


def test_a_package_without_them_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpt, '__file__', str(tmp_path / 'dpt' / '__init__.py'))
    with pytest.raises(FileNotFoundError, match='reinstall dpt'):
        shipped('tools')
