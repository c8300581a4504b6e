"""Losses of depth equal the short formulas of benchmarks/depth_chain/losses.py, gradients included."""

from collections.abc import Callable

import pytest
from depth_chain import losses


@pytest.mark.parametrize(('name', 'config', 'formula'), losses.CASES)
def test_losses_equal_the_formulas_of_their_papers(name: str, config: dict, formula: Callable) -> None:
    assert losses.difference(config, formula) < losses.LIMIT
