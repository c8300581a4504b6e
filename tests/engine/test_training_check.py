"""Mistakes that are reported after a training is built and before its first iteration."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Regress = Callable[..., dict]
POLY = dict(type='PolyLR', by_epoch=False, end=4)
CYCLE = dict(type='OneCycleLR', eta_max=1, by_epoch=False)
LONG = dict(type='IterBasedTrainLoop', max_iters=40, val_interval=50)
EPOCHS = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
NINE = dict(EPOCHS, max_epochs=9)
STOPPING = dict(type='EarlyStoppingHook', rule='greater')


def checkpoint(**arguments: object) -> dict:
    return {'default_hooks': dict(checkpoint=dict(type='CheckpointHook', interval=1, **arguments))}


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (checkpoint(by_epoch=False, save_best='mIou'), r"checkpoint\.save_best='mIou' is not .*: score"),
        (
            {'val_evaluator': [dict(type='Constant'), dict(type='Constant')]},
            r'val_evaluator: several metrics return score: give all but one a prefix',
        ),
        ({'custom_hooks': [dict(STOPPING, monitor='mIoU')]}, r"EarlyStoppingHook\.monitor='mIoU' is not .*"),
        (
            {'param_scheduler': [dict(type='ReduceOnPlateauLR', monitor='loss', rule='less')]},
            r"ReduceOnPlateauLR\.monitor='loss' is not",
        ),
        ({'param_scheduler': [dict(type='PolyLR', end=4)]}, r'param_scheduler\.0: PolyLR counts epochs'),
        (checkpoint(), 'interval=1 counts epochs'),
        ({'custom_hooks': [dict(type='EMAHook')] * 2}, 'several EMAHooks would mix up their weights'),
        (
            {
                'param_scheduler': [dict(type='OneCycleLR', eta_max=1, total_steps=3, by_epoch=False)],
                'train_cfg': LONG,
            },
            r'param_scheduler: in iteration \d of 40: .*total steps is 3',
        ),
    ],
    ids=['save_best', 'metrics', 'stopping', 'plateau', 'schedule', 'checkpoint', 'averages', 'one-cycle'],
)
def test_mistakes_are_named_before_training(
    changes: dict, words: str, tmp_path: Path, regress: Regress
) -> None:
    with pytest.raises(ValueError, match=words):
        regress(tmp_path, **changes)
    assert not list(tmp_path.glob('*.pth'))


def test_a_config_without_checkpoint_hook_saves_the_last_iteration(tmp_path: Path, regress: Regress) -> None:
    regress(tmp_path, default_hooks=None)
    [path] = tmp_path.glob('*.pth')
    assert torch.load(path, weights_only=True)['meta']['iter'] == 4


@pytest.mark.parametrize(
    ('changes', 'negligible'),
    [
        ({'param_scheduler': [POLY], 'train_cfg': LONG}, 37),
        ({'param_scheduler': [POLY]}, None),
        ({'param_scheduler': [dict(POLY, eta_min=1e-3)], 'train_cfg': LONG}, None),
        ({'param_scheduler': [dict(POLY, end=1, by_epoch=True)], 'train_cfg': EPOCHS}, None),
        (
            {'param_scheduler': [dict(POLY, end=2, by_epoch=True)], 'train_cfg': dict(EPOCHS, max_epochs=9)},
            32,
        ),
    ],
    ids=['too short', 'complete', 'floor', 'epochs', 'epochs too short'],
)
def test_schedules_that_end_early_are_reported(
    changes: dict, negligible: int | None, tmp_path: Path, regress: Regress
) -> None:
    regress(tmp_path, **changes, log_level='WARNING')
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert (f'is 0 or negligible in {negligible} of' in log) == (negligible is not None)


def test_long_schedules_are_checked_in_seconds(tmp_path: Path, regress: Regress) -> None:
    many = dict(LONG, max_iters=40_000, val_interval=1)
    stopping = dict(STOPPING, monitor='score', patience=1)
    start = time.monotonic()
    regress(tmp_path, train_cfg=many, param_scheduler=[dict(POLY, end=40_000)], custom_hooks=[stopping])
    assert time.monotonic() - start < 20  # a cost that grows with the square would take minutes


def test_rates_without_a_schedule_are_not_judged(tmp_path: Path, regress: Regress) -> None:
    frozen = dict(optimizer=dict(type='SGD', lr=0.0, momentum=0.9))
    momentum = dict(type='LinearMomentum', by_epoch=False, end=4)
    regress(tmp_path, optim_wrapper=frozen, param_scheduler=[momentum], log_level='WARNING')
    assert 'negligible' not in next(tmp_path.glob('*/*.log')).read_text()


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'train_cfg': dict(type='IterBasedTrainLoop', max_iters=2, val_begin=3)}, 'train_cfg.val_begin=3'),
        ({'param_scheduler': [dict(POLY, end=9)]}, 'param_scheduler.0: end=9 of PolyLR'),
        ({'param_scheduler': [POLY]}, None),
        ({'param_scheduler': [dict(POLY, end=8)], 'train_cfg': EPOCHS}, None),
        ({'param_scheduler': [dict(type='ConstantLR', by_epoch=False)]}, None),
    ],
)
def test_what_is_never_reached_is_reported(
    changes: dict, words: str | None, tmp_path: Path, regress: Regress
) -> None:
    regress(tmp_path, **changes, log_level='WARNING')
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert f'{words} is beyond the end of the training' in log if words else 'beyond the end' not in log
