"""The notebooks of the documentation run, cell by cell, with a shorter training."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip('nbformat', reason='pip install nbclient ipykernel')
nbclient = pytest.importorskip('nbclient')
pytest.importorskip('ipykernel')
SHORTER = {
    'quickstart': {'iterations = 150': 'iterations = 35', '--train 60 --val 12': '--train 8 --val 3'},
    'depth': {'iterations = 120': 'iterations = 35', '--train 60 --val 12': '--train 8 --val 3'},
}
TABLES = {'quickstart': ('sky', 'ground', 'tree', 'house', 'sun', 'car', 'mIoU'), 'depth': ('abs_rel', 'd1')}


def text_of(cell: dict) -> str:
    return ''.join(output.get('text', '') for output in cell['outputs'])


@pytest.mark.parametrize('name', SHORTER)
def test_the_notebook_runs(name: str, repository: Path, tmp_path: Path, monkeypatch) -> None:
    notebook = nbformat.read(repository / 'docs' / 'notebooks' / f'{name}.ipynb', as_version=4)
    source = '\n'.join(cell.source for cell in notebook.cells)
    assert all(text in source for text in SHORTER[name])
    for cell in notebook.cells:
        for text, shorter in SHORTER[name].items():
            cell.source = cell.source.replace(text, shorter)
    monkeypatch.setenv('PYTHONPATH', str(repository))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    nbclient.NotebookClient(notebook, timeout=300, resources={'metadata': {'path': tmp_path}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    pictures = [cell for cell in code if any('image/png' in o.get('data', {}) for o in cell.outputs)]
    assert len(pictures) == 2  # prediction; image, truth, prediction and errors
    table = next(text_of(cell) for cell in code if 'tools}/test.py' in cell.source)
    assert all(word in table for word in TABLES[name])
