"""Which part of the package may import which others."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

BASE = {'dpt.registry', 'dpt.structures'}
PARTS = {'dpt.registry', 'dpt.models.layers'}
CORE = {
    'dpt.apis',
    'dpt.checkpoints',
    'dpt.cli',
    'dpt.config',
    'dpt.datasets',
    'dpt.engine',
    'dpt.evaluation',
}
CORE |= {'dpt.export', 'dpt.hub', 'dpt.models', 'dpt.files', 'dpt.palette', 'dpt.registry', 'dpt.structures'}
CORE |= {'dpt.evaluation', 'dpt.loading', 'dpt.model_card', 'dpt.results', 'dpt.visualization', 'dpt.zoo'}
RULES = {
    'registry.py': set(),
    'structures.py': set(),
    'files.py': set(),
    'palette.py': set(),
    'models/layers.py': set(),
    'models/inference.py': {'dpt.models.layers'},
    'models/lora.py': {'dpt.models.lora_weight'},
    'models/lora_weight.py': set(),
    # Backbones, necks, heads and losses never import each other: configs combine them.
    'models/backbones': PARTS | {'dpt.models.lora'},
    'models/necks': PARTS,
    'models/heads': PARTS,
    'models/losses': PARTS,
    'models/preprocessor.py': BASE,
    'models/dense.py': BASE | {'dpt.models.inference'},
    'models/segmentor.py': BASE | {'dpt.models.dense', 'dpt.models.inference', 'dpt.models.layers'},
    'models/depth_estimator.py': BASE | {'dpt.models.dense', 'dpt.models.layers'},
    'models/tta.py': BASE | {'dpt.models.inference'},
    'datasets': BASE | {'dpt.palette'},
    'evaluation': BASE | {'dpt.files'},
    'visualization': BASE | {'dpt.files', 'dpt.palette'},
    'checkpoints': {'dpt.files'},
    'config': {'dpt.registry', 'dpt.checkpoints'},
    'engine': BASE | {'dpt.config', 'dpt.checkpoints', 'dpt.files'},
    '.': CORE,  # all but the extras
    'extras': CORE,
}


def imported(path: Path, package: Path) -> set[str]:
    """Return the modules of dpt, but for dpt itself, that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1].relative_to(package.parent).parts if node.level else ()
            module = '.'.join((*folder, *filter(None, [node.module])))
            names.update([module] if module != 'dpt' else [f'dpt.{alias.name}' for alias in node.names])
    return {name for name in names if name.startswith(('dpt.', 'tools', 'benchmarks')) and '__' not in name}


@pytest.mark.parametrize('part', RULES)
def test_imports_follow_the_rules(part: str, repository: Path) -> None:
    package = repository / 'dpt'
    root = package / part
    files = [root] if root.suffix == '.py' else list(root.rglob('*.py'))
    assert files, f'{root} is gone: update RULES'
    own = '.'.join(Path('dpt', part.removesuffix('.py')).parts)
    allowed = (RULES[part] | {own}) - {'dpt'}
    for file in files:
        if part == '.' and 'extras' in file.relative_to(package).parts:
            continue
        for name in imported(file, package):
            assert any(f'{name}.'.startswith(f'{one}.') for one in allowed), f'{file} may not import {name}'


def test_importing_dpt_is_cheap_and_needs_no_torchvision() -> None:
    code = (
        'import sys; sys.modules["torchvision"] = None; import dpt; '
        'assert "dpt.models" not in sys.modules; '
        'import dpt.models, dpt.datasets, dpt.evaluation, dpt.engine, dpt.visualization; '
        'assert not any(name.startswith("dpt.extras") for name in sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
