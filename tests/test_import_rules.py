"""Who may import whom: the layout that keeps each part replaceable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

BASE = {'dpt', 'dpt.registry', 'dpt.structures'}
RULES = {
    'registry.py': set(),
    'structures.py': set(),
    'os_errors.py': set(),
    'models/layers.py': set(),
    'models/inference.py': set(),
    'models/backbones': {'dpt.registry', 'dpt.models.layers', 'dpt.models.backbones'},
    'models/necks': {'dpt.registry', 'dpt.models.layers', 'dpt.models.necks'},
    'models/heads': {'dpt.registry', 'dpt.models.layers', 'dpt.models.heads'},
    'models/losses': {'dpt.registry', 'dpt.models.layers', 'dpt.models.losses'},
    'models/preprocessor.py': BASE,
    'models/dense.py': BASE | {'dpt.models.inference'},
    'models/segmentor.py': BASE | {'dpt.models.dense', 'dpt.models.inference'},
    'models/tta.py': BASE | {'dpt.models.inference'},
    'datasets': BASE | {'dpt.datasets'},
    'evaluation': BASE | {'dpt.evaluation'},
    # Figures and reports show what the metric counted.
    'visualization': BASE | {'dpt.evaluation', 'dpt.visualization'},
    'checkpoints': {'dpt.checkpoints'},
    # Parts come by config: what is measured is whatever the registry builds.
    'extras/profiling': BASE | {'dpt.extras.profiling'},
    # The log tells what share of the device's rate the model's arithmetic reaches.
    'engine': BASE | {'dpt.checkpoints', 'dpt.engine', 'dpt.extras.profiling', 'dpt.config', 'dpt.os_errors'},
}


def imported(path: Path) -> set[str]:
    """Names of the modules of dpt that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or '')
    return {name for name in names if name == 'dpt' or name.startswith('dpt.')}


@pytest.mark.parametrize('part', RULES)
def test_imports_stay_within_the_rules(part: str, repository: Path) -> None:
    root = repository / 'dpt' / part
    files = [root] if root.suffix == '.py' else list(root.rglob('*.py'))
    assert files, f'{root} is gone: mend RULES'
    for file in files:
        for name in imported(file):
            allowed = any(name == rule or name.startswith(f'{rule}.') for rule in RULES[part] - {'dpt'})
            assert allowed or (name == 'dpt' and 'dpt' in RULES[part]), f'{file} may not import {name}'


def test_nothing_imports_the_tools(repository: Path) -> None:
    for file in (repository / 'dpt').rglob('*.py'):
        tree = ast.parse(file.read_text(encoding='utf-8'))
        modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not any((module or '').split('.')[0] == 'tools' for module in modules), file


def test_importing_dpt_is_cheap_and_needs_no_torchvision() -> None:
    code = (
        'import sys; sys.modules["torchvision"] = None; import dpt; '
        'assert "dpt.models" not in sys.modules; '
        'import dpt.models, dpt.datasets, dpt.evaluation, dpt.engine, dpt.visualization'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
