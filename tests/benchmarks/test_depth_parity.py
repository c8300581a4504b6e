"""The table of depth comparisons: its verdicts, and models of transformers at small sizes."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import depth_parity
import pytest
from depth_chain import weights
from depth_chain.table import Row, exit_status, render

HOLDS, DIFFERS = Row('a', 1e-6, 1e-5), Row('b', float('nan'), 1e-5)
NOT_RUN = Row('c', None, 1e-5, 'needs a clone')


@pytest.fixture(autouse=True)
def _log_again() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


def test_verdicts_decide_the_exit_status() -> None:
    table = render([HOLDS, DIFFERS, NOT_RUN])
    assert '1 of 2 comparisons hold, 1 not run' in table
    assert [line.split()[-1] for line in table.splitlines()[2:4]] == ['holds', 'DIFFERS']
    assert [exit_status(rows) for rows in ([HOLDS, NOT_RUN], [HOLDS, DIFFERS], [NOT_RUN], [])] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    'case', [one for one in weights.CASES if not one.reference], ids=lambda one: one.name
)
def test_weights_of_transformers_give_its_output(case) -> None:
    rows = weights.rows_of(replace(case, sizes=case.sizes[:2]))
    assert all(row.verdict == 'holds' for row in rows), render(rows)


def test_original_models_need_their_clones() -> None:
    case = next(one for one in weights.CASES if one.reference == 'depth-anything-v2')
    (row,) = weights.rows_of(case)
    assert row.verdict == 'not run'
    assert row.note == 'needs --reference depth-anything-v2=PATH'


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--reference', 'x=/'], '--reference x=/: expected NAME=PATH'),
        (['--reference', f'dpt={Path(__file__)}'], 'is not a folder; clone isl-org/DPT'),
        (['--links', 'weight'], 'choose from weights,losses,metrics,data'),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], words: str, capsys) -> None:
    assert depth_parity.main(arguments) == 2
    assert words in capsys.readouterr().err
