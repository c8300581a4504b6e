"""Resuming a training with a changed config."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Regress = Callable[..., dict]
ADAMW = dict(type='AdamW', lr=0.05, weight_decay=0.01)
EMA = {'custom_hooks': [dict(type='EMAHook', momentum=0.5)]}


def iterations(count: int, **schedule: object) -> dict:
    """Return the options of a training of some iterations, and the settings of its schedule."""
    poly = dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=0, end=count)
    return {
        'train_cfg': dict(type='IterBasedTrainLoop', max_iters=count, val_interval=100),
        'param_scheduler': [dict(poly, **schedule)],
        'optim_wrapper': dict(optimizer=ADAMW),
        'log_level': 'WARNING',
    }


def epochs(count: int) -> dict:
    """Return the options of a training of some epochs of four iterations."""
    return {
        'train_cfg': dict(type='EpochBasedTrainLoop', max_epochs=count, val_interval=100),
        'optim_wrapper': dict(optimizer=ADAMW),
    }


def content(folder: Path, name: str) -> dict:
    return torch.load(folder / name, weights_only=True)


def log(folder: Path) -> str:
    return next(folder.glob('*/*.log')).read_text()


def rates(folder: Path, steps: range) -> list[float]:
    """Return the learning rates after some iterations."""
    return [content(folder, f'iter_{step}.pth')['optimizer']['param_groups'][0]['lr'] for step in steps]


def moments(state: dict) -> dict[str, list]:
    """Return the first moments of AdamW by the name of the parameter."""
    groups = zip(state['optimizer_names'], state['optimizer']['param_groups'], strict=True)
    pairs = [pair for names, group in groups for pair in zip(names, group['params'], strict=True)]
    return {name: state['optimizer']['state'][index]['exp_avg'].tolist() for name, index in pairs}


def equal(one: dict, other: dict) -> bool:
    weights = one['state_dict'], other['state_dict']
    return all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0] | weights[1])


@pytest.fixture
def four(regress: Regress, tmp_path: Path) -> Path:
    """Work directory of a finished training of four iterations."""
    regress(tmp_path / 'four', **iterations(4))
    return tmp_path / 'four'


@pytest.mark.parametrize(
    'changed',
    [
        iterations(8),
        {**iterations(8), 'optim_wrapper': dict(optimizer=dict(ADAMW, lr=1e-3))},
        {**iterations(8), 'param_scheduler': [dict(type='CosineAnnealingLR', T_max=8, by_epoch=False)]},
        {**iterations(8), 'param_scheduler': None},
    ],
    ids=['longer', 'rate', 'kind', 'none'],
)
def test_changed_schedules_hold_as_if_used_from_the_start(
    changed: dict, four: Path, regress: Regress, tmp_path: Path
) -> None:
    regress(tmp_path / 'whole', **changed)
    regress(tmp_path / 'resumed', four / 'iter_4.pth', **changed)
    assert rates(tmp_path / 'resumed', range(5, 9)) == rates(tmp_path / 'whole', range(5, 9))
    assert 'train_cfg.max_iters: 4 -> 8' in log(tmp_path / 'resumed')


def test_parameters_keep_their_state_in_other_groups(four: Path, regress: Regress, tmp_path: Path) -> None:
    rule = dict(bias_decay_mult=0.0, custom_keys={'layers.2': dict(lr_mult=0.1)})
    grouped = {**iterations(4), 'optim_wrapper': dict(optimizer=ADAMW, paramwise_cfg=rule)}
    resumed = regress(tmp_path / 'b', four / 'iter_3.pth', **grouped)
    assert len(resumed['optimizer']['param_groups']) == 3
    # The gradients are the same; only rates and decay differ.
    assert moments(resumed) == moments(content(four, 'iter_4.pth'))


def test_another_optimiser_is_refused_with_its_key(four: Path, regress: Regress, tmp_path: Path) -> None:
    sgd = {**iterations(8), 'optim_wrapper': dict(optimizer=dict(type='SGD', lr=0.1))}
    with pytest.raises(ValueError, match=r"optim_wrapper\.optimizer\.type: 'AdamW' -> 'SGD'.* set load_from"):
        regress(tmp_path / 'b', four / 'iter_4.pth', **sgd)


def test_removed_ema_continues_with_the_trained_weights(regress: Regress, tmp_path: Path) -> None:
    averaged = regress(tmp_path / 'a', **iterations(4), **EMA)
    resumed = regress(tmp_path / 'b', tmp_path / 'a' / 'iter_3.pth', **iterations(4))
    for name, one in resumed['state_dict'].items():
        assert torch.equal(one, averaged['ema_state_dict'][f'module.{name}'])


def test_added_ema_averages_from_the_checkpoint_on(four: Path, regress: Regress, tmp_path: Path) -> None:
    resumed = regress(tmp_path / 'b', four / 'iter_2.pth', **iterations(4), **EMA)
    third, last = (content(four, name)['state_dict'] for name in ('iter_3.pth', 'iter_4.pth'))
    for name, one in last.items():
        assert torch.equal(resumed['ema_state_dict'][f'module.{name}'], one)
        torch.testing.assert_close(resumed['state_dict'][name], (one + third[name]) / 2)


def test_iterations_continue_as_epochs_and_back(regress: Regress, tmp_path: Path) -> None:
    constant = {**iterations(5), 'param_scheduler': None}
    regress(tmp_path / 'a', **constant)
    resumed = regress(tmp_path / 'b', tmp_path / 'a' / 'iter_5.pth', **epochs(3))
    assert (resumed['meta']['epoch'], resumed['meta']['iter']) == (2, 12)  # in the third epoch
    resumed = regress(
        tmp_path / 'c', tmp_path / 'b' / 'iter_10.pth', **{**iterations(13), 'param_scheduler': None}
    )
    assert resumed['meta']['iter'] == 13
    regress(tmp_path / 'd', **{**iterations(13), 'param_scheduler': None})
    assert equal(resumed, content(tmp_path / 'd', 'iter_13.pth'))


def test_checkpoints_without_names_of_parameters_resume(four: Path, regress: Regress, tmp_path: Path) -> None:
    old = content(four, 'iter_3.pth')
    del old['optimizer_names']
    torch.save(old, four / 'old.pth')
    one = regress(tmp_path / 'b', four / 'old.pth', **iterations(8))
    assert equal(one, regress(tmp_path / 'c', four / 'iter_3.pth', **iterations(8)))
    grouped = dict(optimizer=ADAMW, paramwise_cfg=dict(bias_lr_mult=2.0))
    with pytest.raises(ValueError, match=r'optim_wrapper\.paramwise_cfg.* set load_from'):
        regress(tmp_path / 'd', four / 'old.pth', **{**iterations(8), 'optim_wrapper': grouped})


def test_mixed_precision_may_change(four: Path, regress: Regress, tmp_path: Path) -> None:
    amp = {**iterations(8), 'optim_wrapper': dict(type='AmpOptimWrapper', dtype='bfloat16', optimizer=ADAMW)}
    assert regress(tmp_path / 'b', four / 'iter_3.pth', **amp)['meta']['iter'] == 8
    assert regress(tmp_path / 'c', tmp_path / 'b' / 'iter_5.pth', **iterations(8))['meta']['iter'] == 8


def test_plateaus_refuse_a_changed_schedule(regress: Regress, tmp_path: Path) -> None:
    plateau = dict(type='ReduceOnPlateauLR', monitor='score', rule='greater')
    given = {**iterations(4), 'param_scheduler': [plateau]}
    regress(tmp_path / 'a', **given)
    changed = {**given, 'param_scheduler': [dict(plateau, factor=0.5)]}
    with pytest.raises(ValueError, match='param_scheduler: the rate of ReduceOnPlateau'):
        regress(tmp_path / 'b', tmp_path / 'a' / 'iter_3.pth', **changed)


def test_an_unreadable_config_is_reported(four: Path, regress: Regress, tmp_path: Path) -> None:
    old = content(four, 'iter_3.pth')
    old['meta']['cfg'] = 'model = open("x")'
    torch.save(old, four / 'old.pth')
    regress(tmp_path / 'b', four / 'old.pth', **iterations(4))
    assert 'no readable config' in log(tmp_path / 'b')


@pytest.mark.parametrize('by_epoch', [False, True])
def test_accumulated_gradients_are_not_lost(by_epoch: bool, regress: Regress, tmp_path: Path) -> None:
    """Checkpoints that fall between two steps are saved after the next one."""
    given = epochs(3) if by_epoch else iterations(12)
    given |= {
        'optim_wrapper': dict(optimizer=ADAMW, accumulative_counts=5),
        'default_hooks': dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 4)
        ),
    }
    whole = regress(tmp_path / 'a', **given)
    saved = {path.name for path in (tmp_path / 'a').glob('*.pth')}
    assert saved == {'iter_5.pth', 'iter_10.pth', 'epoch_3.pth' if by_epoch else 'iter_12.pth'}
    assert equal(whole, regress(tmp_path / 'b', tmp_path / 'a' / 'iter_10.pth', **given))


def test_other_shapes_are_named(four: Path, regress: Regress, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'other shapes .*layers\.0\.weight \(4, 4\) instead of \(6, 4\)'):
        regress(tmp_path / 'b', four / 'iter_3.pth', **iterations(4), model=dict(type='Regression', width=6))


def test_schedules_that_were_not_saved_are_stepped_again(regress: Regress, tmp_path: Path) -> None:
    hook = dict(type='CheckpointHook', by_epoch=False, interval=1, save_param_scheduler=False)
    given = {**iterations(4), 'default_hooks': dict(checkpoint=hook)}
    regress(tmp_path / 'a', **given)
    regress(tmp_path / 'b', tmp_path / 'a' / 'iter_2.pth', **given)
    assert rates(tmp_path / 'b', range(3, 5)) == rates(tmp_path / 'a', range(3, 5))


def test_another_number_of_images_is_reported(four: Path, regress: Regress, tmp_path: Path) -> None:
    loader = dict(batch_size=2, num_workers=0, collate_fn=dict(type='default_collate'))
    fewer = dict(loader, dataset=dict(type='Points', indices=5), sampler=dict(type='InfiniteSampler'))
    regress(tmp_path / 'b', four / 'iter_3.pth', **iterations(4), train_dataloader=fewer)
    assert 'the number of training images has changed from 8 to 5' in log(tmp_path / 'b')


def test_the_run_info_has_the_resumed_seed(regress: Regress, tmp_path: Path) -> None:
    hooks = {'custom_hooks': [dict(type='RunInfoHook')], 'randomness': dict(seed=None)}
    regress(tmp_path / 'a', **hooks)
    regress(tmp_path / 'b', tmp_path / 'a' / 'iter_2.pth', **hooks)
    seeds = [json.loads(next((tmp_path / name).glob('run_info*')).read_text())['seed'] for name in 'ab']
    assert seeds[0] == seeds[1]


def test_options_that_need_another_state_are_refused(four: Path, regress: Regress, tmp_path: Path) -> None:
    changed = {**iterations(8), 'optim_wrapper': dict(optimizer=dict(ADAMW, amsgrad=True))}
    with pytest.raises(ValueError, match=r'amsgrad: \(absent\) -> True: the saved state .* set load_from'):
        regress(tmp_path / 'b', four / 'iter_3.pth', **changed)


@pytest.mark.parametrize(
    'wrapper', [dict(clip_grad=dict(max_norm=1e-3)), dict(type='AmpOptimWrapper', dtype='bfloat16')]
)
def test_the_wrapper_changes_without_new_schedules(wrapper: dict, regress: Regress, tmp_path: Path) -> None:
    """Not even the rate of a plateau, which cannot be computed again, stands in the way."""
    plateau = dict(type='ReduceOnPlateauLR', monitor='score', rule='greater', patience=0)
    given = {**iterations(6), 'param_scheduler': [plateau]}
    given['train_cfg'] = dict(given['train_cfg'], val_interval=1)
    regress(tmp_path / 'a', **given)
    changed = {**given, 'optim_wrapper': dict(optimizer=ADAMW, **wrapper)}
    regress(tmp_path / 'b', tmp_path / 'a' / 'iter_3.pth', **changed)
    assert 0 < rates(tmp_path / 'b', range(4, 7))[0] < ADAMW['lr']
    assert rates(tmp_path / 'b', range(4, 7)) == rates(tmp_path / 'a', range(4, 7))


def test_a_short_cycle_is_named_while_resuming(four: Path, regress: Regress, tmp_path: Path) -> None:
    cycle = dict(type='OneCycleLR', eta_max=1, total_steps=2, by_epoch=False)
    with pytest.raises(ValueError, match=r'^param_scheduler: in iteration 4 of 8: .*total steps is 2'):
        regress(tmp_path / 'b', four / 'iter_4.pth', **{**iterations(8), 'param_scheduler': [cycle]})


@pytest.mark.parametrize('schedule', [dict(convert_to_iter_based=True), dict(by_epoch=False)])
def test_schedules_follow_the_length_of_epochs(schedule: dict, regress: Regress, tmp_path: Path) -> None:
    given = {**epochs(4), 'param_scheduler': [dict(type='PolyLR', eta_min=0.0, power=1.0, **schedule)]}
    loader = dict(num_workers=0, collate_fn=dict(type='default_collate'), dataset=dict(type='Points'))
    shorter = dict(loader, batch_size=4, sampler=dict(type='InfiniteSampler'))
    regress(tmp_path / 'a', **given)
    regress(tmp_path / 'whole', **given, train_dataloader=shorter)
    regress(tmp_path / 'b', tmp_path / 'a' / 'iter_8.pth', **given, train_dataloader=shorter)
    assert rates(tmp_path / 'b', range(9, 13)) == rates(tmp_path / 'whole', range(5, 9))


@pytest.mark.parametrize(
    ('changes', 'forgets'),
    [
        (dict(val_evaluator=dict(type='Constant', collect_device='cpu')), True),
        (dict(save_best='auto'), True),
        (dict(val='Points', indices=3), True),
        (dict(val='Points', data_root='there', train=True), False),
        (dict(val='Points', data_root='there'), True),
        ({}, False),
    ],
    ids=['metric', 'save_best', 'data', 'moved', 'root', 'same'],
)
def test_scores_of_another_validation_are_forgotten(
    changes: dict, forgets: bool, regress: Regress, tmp_path: Path
) -> None:
    changes = dict(changes)

    def given(save_best: str = 'score', val: str = '', train: bool = False, **dataset: object) -> dict:
        loader = dict(batch_size=2, num_workers=0, collate_fn=dict(type='default_collate'))
        loader['dataset'] = dict(type='Points', **dataset)
        hook = dict(type='CheckpointHook', by_epoch=False, interval=1, save_best=save_best, rule='greater')
        moved = dict(loader, sampler=dict(type='InfiniteSampler'))
        return {
            **iterations(4),
            'train_cfg': dict(type='IterBasedTrainLoop', max_iters=4, val_interval=2),
            'default_hooks': dict(checkpoint=hook),
            'val_dataloader': dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
            'train_dataloader': moved if train else dict(moved, dataset=dict(type='Points')),
        }

    regress(tmp_path / 'a', **given())
    evaluator = {key: changes.pop(key) for key in list(changes) if key == 'val_evaluator'}
    regress(tmp_path / 'b', tmp_path / 'a' / 'iter_3.pth', **{**given(**changes), **evaluator})
    assert ('best score so far is forgotten' in log(tmp_path / 'b')) == forgets
    assert bool(list((tmp_path / 'b').glob('best_*'))) == forgets  # the score is always the same


@pytest.mark.parametrize(('given', 'key'), [(iterations(2), 'max_iters=2'), (epochs(1), 'max_epochs=1')])
def test_a_finished_training_says_so(given: dict, key: str, regress: Regress, tmp_path: Path) -> None:
    given = {**given, 'log_level': 'WARNING'}
    last = tmp_path / 'a' / ('iter_2.pth' if 'iters' in key else 'iter_4.pth')
    regress(tmp_path / 'a', **given)
    regress(tmp_path / 'b', last, **given)
    assert re.search(rf'nothing is left to train: .* train_cfg\.{key}\. To', log(tmp_path / 'b'))
