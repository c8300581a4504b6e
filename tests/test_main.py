"""The command ``dpt``."""

import sys
from pathlib import Path

import pytest

from dpt.__main__ import find_tools, main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, 'argv', ['dpt', *arguments])
    monkeypatch.setattr(sys, 'path', [*sys.path])
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


@pytest.mark.parametrize('arguments', [(), ('--help',)])
def test_help_lists_every_tool_with_what_it_does(
    arguments: tuple[str, ...],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *arguments) == 0
    told = {
        line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()
    }
    for file in (repository / 'tools').rglob('*.py'):
        assert told[file.relative_to(repository / 'tools').with_suffix('').as_posix()], file


def test_a_tool_gets_its_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, 'print_config', 'quickstart.py', '--cfg-options', 'total_batch_size=3') == 0
    assert 'total_batch_size = 3' in capsys.readouterr().out
    assert run(monkeypatch, 'print_config', 'nothing.py') == 1  # the status of the tool


def test_where_prints_the_folders(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, 'where', 'configs') == 0
    assert capsys.readouterr().out == f'{repository / "configs"}\n'


def test_an_unknown_tool_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, 'trian') == 2
    assert capsys.readouterr().err == 'error: dpt has no tool trian; dpt --help lists them\n'


def test_tools_in_folders_bear_the_folder(repository: Path) -> None:
    assert find_tools()['model_converters/vit2mmseg'].is_file()
