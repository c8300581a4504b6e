"""What our runner does otherwise than the engine's."""

import logging

import pytest
from mmengine.runner import Runner

from dpt.engine.runner import QuietRunner


class Losses:
    """A model that can be told to compile."""

    def __init__(self) -> None:
        self.options: list[dict] = []

    def compile_losses(self, **options: str) -> None:
        self.options.append(options)


@pytest.mark.parametrize(
    ('setting', 'options'),
    [(True, [{}]), ({}, [{}]), (dict(backend='eager'), [dict(backend='eager')]), (False, []), (None, [])],
)
def test_the_losses_alone_are_compiled(
    setting: object, options: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_engine = []
    monkeypatch.setattr(Runner, '_maybe_compile', lambda self, target: by_engine.append(target))
    runner = QuietRunner.__new__(QuietRunner)
    runner.model, runner.cfg, runner.logger = Losses(), dict(compile=setting), logging.getLogger('test_quiet')
    for target in ('train_step', 'val_step', 'test_step'):
        runner._maybe_compile(target)
    assert runner.model.options == options
    assert by_engine == ([] if options else ['train_step', 'val_step', 'test_step'])


@pytest.mark.parametrize('names', ['backbone', ['backbone.layers.0', 'backbone.stem']])
def test_parts_that_the_engine_would_not_train_are_not_recomputed(
    names: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, 'train', lambda self: 'trained')
    runner = QuietRunner.__new__(QuietRunner)
    runner.cfg = dict(activation_checkpointing=names)
    with pytest.raises(ValueError, match='with_cp=True'):
        runner.train()
    runner.cfg = dict(activation_checkpointing='backbone.layers.0')
    assert runner.train() == 'trained'
