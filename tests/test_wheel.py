"""The wheel, built from the sdist, brings all that a checkout has: package, configs, tools, the command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('build', reason='python -m build is not installed')
SOURCES = (
    'dpt',
    'configs',
    'tools',
    'pyproject.toml',
    'setup.py',
    'README.md',
    'LICENSE',
    'requirements.txt',
)


def call(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, 'PYTHONPATH': str(path or '')}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def installed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed into it, as ``pip install --target`` does."""
    root = tmp_path_factory.mktemp('wheel')
    source = root / 'source'
    source.mkdir()
    for name in SOURCES:  # a build leaves files beside its sources
        if (repository / name).is_dir():
            shutil.copytree(
                repository / name, source / name, ignore=shutil.ignore_patterns('__pycache__', '*.egg-info')
            )
        else:
            shutil.copy(repository / name, source / name)
    call('-m', 'build', '--no-isolation', '--outdir', str(root / 'dist'), str(source), cwd=root)
    (wheel,) = (root / 'dist').glob('*.whl')
    target = root / 'site'
    pip = ('-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index', '--target', str(target), str(wheel))
    call(*pip, cwd=root)
    return target


def test_configs_and_tools_are_in_it(installed: Path, repository: Path) -> None:
    for kind in ('configs', 'tools'):
        expected = {
            file.relative_to(repository)
            for file in (repository / kind).rglob('*')
            if file.suffix in ('.py', '.sh')
        }
        shipped = installed / 'dpt' / '.mim'
        assert {file.relative_to(shipped) for file in (shipped / kind).rglob('*.[ps][yh]')} == expected


def test_the_distribution_has_its_own_name_and_types(installed: Path) -> None:
    (metadata,) = installed.glob('*.dist-info/METADATA')
    assert 'Name: dense-prediction-transformers\n' in metadata.read_text(encoding='utf-8')
    assert (installed / 'dpt' / 'py.typed').is_file()


def test_the_command_runs_its_own_tools_and_configs(installed: Path, tmp_path: Path) -> None:
    assert (installed / 'bin' / 'dpt').is_file()
    assert 'model_converters/vit2mmseg' in call('-m', 'dpt', '--help', cwd=tmp_path, path=installed)
    folder = call('-m', 'dpt', 'where', 'configs', cwd=tmp_path, path=installed).strip()
    assert Path(folder) == installed / 'dpt' / '.mim' / 'configs'
    printed = call('-m', 'dpt', 'print_config', 'quickstart.py', cwd=tmp_path, path=installed)
    assert 'max_iters = 700' in printed
