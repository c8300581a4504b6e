"""The quickstart on fewer images and iterations: the first command that a reader runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def environment(root: Path) -> dict[str, str]:
    """A virtual environment that tools/_venv.sh takes for one it has filled: the interpreter of the tests."""
    folder = root / 'environment'
    (folder / 'bin').mkdir(parents=True)
    (folder / 'pyvenv.cfg').touch()
    python = folder / 'bin/python'
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    paths = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get('PYTHONPATH', '')])
    variables = dict(os.environ, VENV=str(folder), PYTHON=sys.executable, PYTHONPATH=paths.rstrip(os.pathsep))
    stamp = subprocess.run(
        ['bash', '-c', f'source {root}/tools/_venv.sh && _stamp'],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (folder / '.installed-runtime').write_text(stamp + '\n')
    return variables


def test_quickstart_runs_and_checks_the_final_miou(repository: Path, tmp_path: Path) -> None:
    for name in ('tools', 'configs'):
        shutil.copytree(repository / name, tmp_path / name)
    for name in ('requirements.txt', 'pyproject.toml'):
        shutil.copy(repository / name, tmp_path)
    for file, long, short in (
        ('configs/quickstart.py', 'max_iters = 700', 'max_iters = 2'),
        ('configs/quickstart.py', 'warmup_iters = 30', 'warmup_iters = 1'),
        ('configs/quickstart.py', 'interval=350', 'interval=2'),
        ('tools/quickstart.sh', '"data/$NAME"', '"data/$NAME" --train 8 --val 2'),
    ):
        path = tmp_path / file
        text = path.read_text()
        assert long in text
        path.write_text(text.replace(long, short))

    result = subprocess.run(
        ['bash', str(tmp_path / 'tools/quickstart.sh')],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    output = result.stdout + result.stderr
    assert 'FAILED during the check that the mIoU is at least' in output, output[-3000:]
    assert result.returncode == 1
    assert 'checkpoint:                    work_dirs/quickstart/iter_2.pth' in output
    assert len(list((tmp_path / 'work_dirs/quickstart/overlays').rglob('*.png'))) == 2
