"""Every schedule, optimiser and hook of mmengine and torch, trained, saved and resumed."""

from collections.abc import Callable
from pathlib import Path

import mmengine.hooks
import pytest
import torch
from mmengine.registry import HOOKS, OPTIMIZERS, PARAM_SCHEDULERS

Regress = Callable[..., dict]

SCHEDULES = {
    'Constant': dict(end=2),
    'CosineAnnealing': dict(T_max=4),
    'CosineRestart': dict(periods=[2, 2], restart_weights=[1, 0.5], eta_min=0),
    'Exponential': dict(gamma=0.9),
    'Linear': dict(end=3),
    'MultiStep': dict(milestones=[1, 3]),
    'Poly': dict(end=4),
    'ReduceOnPlateau': dict(monitor='score', rule='greater', patience=0, by_epoch=True),
    'Step': dict(step_size=1),
    'OneCycle': dict(eta_max=0.1, total_steps=4),
}
UNUSABLE = {  # optimiser: a word of the reason
    'LBFGS': 'closure',
    'Muon': '2D parameters',
    'SparseAdam': 'dense gradients',
    'Optimizer': '',
    'ZeroRedundancyOptimizer': 'only a part',
}
ARGUMENTS = {'SGD': dict(momentum=0.9), 'Adafactor': dict(relative_step=False, scale_parameter=False)}
ENGINE_HOOKS = {  # in each training
    'CheckpointHook',
    'DistSamplerSeedHook',
    'IterTimerHook',
    'LoggerHook',
    'ParamSchedulerHook',
    'RuntimeInfoHook',
}
CUSTOM_HOOKS = {
    'EMAHook': dict(momentum=0.5),
    'EarlyStoppingHook': dict(monitor='score', rule='greater', patience=9),
    'EmptyCacheHook': dict(after_iter=True),
    'ProfilerHook': dict(by_epoch=False, profile_times=2),
    'SyncBuffersHook': {},
}
OTHER_HOOKS = {'NPUProfilerHook', 'NaiveVisualizationHook', 'PrepareTTAHook'}  # NPUs; tests of models


def exact(state: object) -> object:
    """Return plain data with lists instead of tensors, which ``==`` compares."""
    if isinstance(state, dict):
        return {key: exact(one) for key, one in state.items()}
    if isinstance(state, list):
        return [exact(one) for one in state]
    return state.tolist() if isinstance(state, torch.Tensor) else state


def schedule(name: str) -> dict:
    kind = name.removesuffix('LR').removesuffix('Momentum')
    return {'param_scheduler': [dict(dict(type=name, by_epoch=False), **SCHEDULES[kind])]}


def optimizer(name: str) -> dict:
    return {'optim_wrapper': dict(optimizer=dict(type=name, lr=0.05, **ARGUMENTS.get(name, {})))}


def custom_hook(name: str) -> dict:
    return {'custom_hooks': [dict(type=name, **CUSTOM_HOOKS[name])]}


SCHEDULERS = [name for name in PARAM_SCHEDULERS.module_dict if name.endswith(('LR', 'Momentum'))]


@pytest.mark.parametrize(
    'options',
    [
        *(pytest.param(schedule(name), id=name) for name in SCHEDULERS),
        *(pytest.param(optimizer(name), id=name) for name in OPTIMIZERS.module_dict if name not in UNUSABLE),
        *(pytest.param(custom_hook(name), id=name) for name in CUSTOM_HOOKS),
    ],
)
def test_parts_resume_as_uninterrupted(options: dict, tmp_path: Path, regress: Regress) -> None:
    whole = regress(tmp_path / 'a', **options)
    resumed = regress(tmp_path / 'b', tmp_path / 'a' / 'iter_2.pth', **options)
    for name in ('state_dict', 'optimizer', 'param_schedulers', 'ema_state_dict'):
        assert exact(whole.get(name)) == exact(resumed.get(name))


@pytest.mark.parametrize('name', [name for name in UNUSABLE if name in OPTIMIZERS and UNUSABLE[name]])
def test_unusable_optimizers_are_refused_before_training(name: str, tmp_path: Path, regress: Regress) -> None:
    with pytest.raises(ValueError, match=f'{name}.*{UNUSABLE[name]}'):
        regress(tmp_path, **optimizer(name))
    assert not list(tmp_path.glob('*.pth'))


def test_every_hook_is_tried() -> None:
    known = {name for name in HOOKS.module_dict if hasattr(mmengine.hooks, name)}
    assert known == ENGINE_HOOKS | set(CUSTOM_HOOKS) | OTHER_HOOKS
