"""The scripts of docs/python.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(r'^```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize('number', [0, 1, 2], ids=['build_runner', 'mmengine', 'own loop'])
def test_scripts_run(number: int, repository: Path, tiny_config: Path, tmp_path: Path) -> None:
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / 'quickstart.py').write_text(f'_base_ = [{str(tiny_config)!r}]\n')
    scripts = BLOCK.findall((repository / 'docs' / 'python.md').read_text())
    assert len(scripts) == 3
    # mmengine imports torchvision for its version, which fails if it does not match this torch.
    head = "import sys\nsys.modules['torchvision'] = None\n"
    (tmp_path / 'script.py').write_text(head + scripts[number].replace('100', '32'))
    result = subprocess.run(
        [sys.executable, 'script.py'], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    if number < 2:
        assert list(tmp_path.glob('work_dirs/*/iter_32.pth'))
