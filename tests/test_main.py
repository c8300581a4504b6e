"""The command ``dpt``."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dpt.__main__ import main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run ``dpt`` with arguments; returns the exit status."""

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, 'argv', ['dpt', *arguments])
        monkeypatch.setattr(sys, 'path', [*sys.path])
        try:
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0
        return 0

    return call


@pytest.mark.parametrize('arguments', [(), ('--help',)])
def test_help_describes_every_tool(run: Callable, arguments: tuple, repository: Path, capsys) -> None:
    assert run(*arguments) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    described = {line[0]: line[1:] for line in lines}
    for file in (repository / 'tools').rglob('*.py'):
        assert described[file.relative_to(repository / 'tools').with_suffix('').as_posix()], file


def test_a_tool_gets_its_arguments(run: Callable, monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert run('print_config', 'quickstart.py', '--cfg-options', 'total_batch_size=3') == 0
    assert 'total_batch_size = 3' in capsys.readouterr().out
    assert run('print_config', 'nothing.py') == 1


def test_where_prints_the_folders(run: Callable, repository: Path, capsys) -> None:
    assert run('where', 'configs') == 0
    assert capsys.readouterr().out == f'{repository / "configs"}\n'


def test_an_unknown_tool_is_reported_in_one_line(run: Callable, capsys) -> None:
    assert run('trian') == 2
    assert capsys.readouterr().err == 'error: dpt has no tool trian; dpt --help lists them\n'
