"""The table and exit status of backbones.py."""

import logging

import backbones
import pytest
import torch

from dpt.models.backbones import TimmBackbone


@pytest.fixture
def table(monkeypatch, capsys):
    """Run the benchmark for some models; returns its exit status and the cells by model and column."""

    def run(names: str) -> tuple[int, dict[str, dict[str, str]]]:
        monkeypatch.setattr('sys.argv', ['backbones.py', '--only', names])
        try:
            status = backbones.main()
        finally:
            logging.disable(logging.NOTSET)
        titles, _, *rows = [line.split(' | ') for line in capsys.readouterr().out.splitlines() if '|' in line]
        return status, {row[0][2:]: dict(zip(titles[1:], row[1:], strict=True)) for row in rows}

    return run


def test_models_hold_and_name_what_does_not_work(table) -> None:
    pytest.importorskip('transformers')
    status, rows = table('vit_small_patch16_dinov3_qkvb,resnet18')
    assert status == 0
    assert float(rows['vit_small_patch16_dinov3_qkvb']['reference']) <= 1e-5
    assert rows['vit_small_patch16_dinov3_qkvb']['lora'] == 'refused: weight read'
    assert rows['resnet18']['lora'] == 'refused: no qkv'
    assert {row['size'] for row in rows.values()} == {'any'}


def test_any_failure_ends_in_status_1(table, monkeypatch) -> None:
    def shifted(self, x: torch.Tensor) -> tuple:
        return tuple((one * 1.001, token) for one, token in forward(self, x))

    forward = TimmBackbone.forward
    monkeypatch.setattr(TimmBackbone, 'forward', shifted)
    monkeypatch.setattr(backbones.Checks, 'columns', ('training', 'reference', 'loading'))
    status, rows = table('vit_small_patch16_dinov3_qkvb')
    assert status == 1
    (row,) = rows.values()
    assert row['reference'].startswith('**FAILS** AssertionError: differs by')
    assert row['training'] == 'yes'


def test_unknown_models_exit_with_2(table) -> None:
    with pytest.raises(SystemExit, match='2'):
        table('resnet19')
