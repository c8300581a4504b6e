"""Parameter groups and mixed precision."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from torch import nn

from dpt.engine.optim import AmpOptimWrapper, OptimWrapper, describe_frozen, preferred_amp_dtype
from dpt.engine.sharding import load_optimizer


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        self.pos_embed = nn.Parameter(torch.zeros(4))
        self.head = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def build(paramwise_cfg: dict | None) -> tuple[Model, torch.optim.Optimizer]:
    model = Model()
    config = dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.5), paramwise_cfg=paramwise_cfg)
    return model, build_optim_wrapper(model, {key: value for key, value in config.items() if value}).optimizer


def settings(model: Model, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Learning rate and decay by parameter name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for parameter in group['params']
    }


def test_rules_apply_to_their_parameters_and_equal_groups_are_merged() -> None:
    rules = dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'pos_embed': dict(decay_mult=0.0), 'backbone': dict(lr_mult=0.1)},
    )
    model, optimizer = build(rules)
    assert settings(model, optimizer) == {
        'backbone.0.weight': (0.1, 0.5),
        'backbone.0.bias': (0.1, 0.5),
        'backbone.1.weight': (0.1, 0.5),
        'backbone.1.bias': (0.1, 0.5),
        'pos_embed': (1.0, 0.0),
        'head.0.weight': (1.0, 0.5),
        'head.0.bias': (1.0, 0.0),
        'head.1.weight': (1.0, 0.0),
        'head.1.bias': (1.0, 0.0),
    }
    assert len(optimizer.param_groups) <= 4


def test_rates_for_no_parameter_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    logger = SimpleNamespace(level=0, setLevel=lambda *_: None, info=print, log=print, warning=lines.append)
    monkeypatch.setattr('dpt.engine.optim.MMLogger.get_current_instance', lambda: logger)
    build(dict(custom_keys={'backbon.': dict(lr_mult=0.1), 'relative_bias': dict(decay_mult=0.0)}))
    assert ["no parameter has 'backbon.' in its name" in line for line in lines] == [True]


def test_without_rules_everything_is_decayed() -> None:
    _, optimizer = build(None)
    assert {group['weight_decay'] for group in optimizer.param_groups} == {0.5}


def test_mixed_precision_trains_on_this_device() -> None:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = nn.Linear(4, 2).to(device)
    before = model.weight.detach().clone()
    wrapper = AmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        out = model(torch.ones(3, 4, device=device))
    assert out.dtype == preferred_amp_dtype()
    wrapper.update_params(out.float().sum())
    assert not torch.equal(before, model.weight)
    wrapper.load_state_dict(wrapper.state_dict())


def test_unsupported_dtypes_are_errors() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    with pytest.raises(ValueError, match='bfloat16'):
        AmpOptimWrapper(optimizer=optimizer, dtype='float8')
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='needs a GPU'):
            AmpOptimWrapper(optimizer=optimizer, dtype='float16')


def test_emulated_bfloat16_is_not_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    for native, expected in ((False, torch.float16), (True, torch.bfloat16)):
        monkeypatch.setattr(
            'torch.cuda.is_bf16_supported',
            lambda including_emulation=True, n=native: including_emulation or n,
        )
        assert preferred_amp_dtype() is expected


def test_an_unknown_loss_scale_is_an_error() -> None:
    with pytest.raises(ValueError, match='loss_scale'):
        AmpOptimWrapper(loss_scale='512', optimizer=build(None)[1])


def test_a_state_without_scaler_loads_into_a_wrapper_with_one() -> None:
    wrapper = AmpOptimWrapper(optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
    state = wrapper.state_dict()
    assert state['loss_scaler'] == {}
    wrapper.loss_scaler = torch.amp.GradScaler('cpu', enabled=True)
    wrapper.load_state_dict(state)
    assert wrapper.optimizer.param_groups[0]['lr'] == 0.1


def test_a_loaded_state_keeps_the_implementation() -> None:
    """A checkpoint of a CPU would make the optimiser of a GPU wait for the host at each step."""
    states, wrappers = [], []
    for fused in (None, True):
        parameter = nn.Parameter(torch.ones(3))
        wrappers.append(OptimWrapper(optimizer=torch.optim.AdamW([parameter], lr=0.1, fused=fused)))
        wrappers[-1].update_params(parameter.sum())
        states.append(wrappers[-1].state_dict())
    for wrapper, state, fused in zip(wrappers, reversed(states), (None, True), strict=True):
        load_optimizer(wrapper, state)
        assert wrapper.optimizer.param_groups[0]['fused'] is fused
        assert wrapper.optimizer.state_dict()['state'][0]['step'] == 1


def test_parameter_groups_are_plain_dicts() -> None:
    settings = dict(
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.5), paramwise_cfg=dict(norm_decay_mult=0.0)
    )
    optimizer = build_optim_wrapper(Model(), ConfigDict(settings)).optimizer
    assert len(optimizer.param_groups) == 2
    assert all(type(group) is dict for group in optimizer.param_groups)


@pytest.mark.parametrize(
    'optimizer',
    [
        dict(type='AdamW', lr=0.1),
        dict(type='SGD', lr=0.1),
        dict(type='SGD', lr=0.1, momentum=0.9),
        dict(type='Adam', lr=0.1, amsgrad=True),
    ],
)
def test_saved_memory_is_that_of_gradients_and_states(optimizer: dict) -> None:
    model = nn.Sequential(nn.Linear(512, 1024, bias=False), nn.Linear(1024, 512, bias=False))
    wrapper = build_optim_wrapper(model, ConfigDict(optimizer=optimizer))
    assert describe_frozen(model, wrapper.optimizer) is None
    model[0].requires_grad_(False)
    model(torch.ones(1, 512)).sum().backward()
    wrapper.optimizer.step()
    states = [value for state in wrapper.optimizer.state.values() for value in state.values()]
    kept = [value for value in (*states, model[1].weight.grad) if value is not None and value.ndim]
    mib = sum(value.nbytes for value in kept) / 2**20
    expected = (
        'frozen parts: 524,288 of 1,048,576 parameters are trained (50.0 %); gradients and optimiser state '
        f'take {mib:.1f} MiB instead of {2 * mib:.1f} MiB (50.0 % less)'
    )
    assert describe_frozen(model, wrapper.optimizer) == expected
