"""The parts that costs are told by."""

import pytest
import torch
from torch import nn

from dpt.extras.profiling.parts import parts_of, watch_parts
from dpt.registry import MODELS


def test_the_parts_hold_every_parameter_once(model_config: dict) -> None:
    auxiliary = [dict(type='FCNHead', in_channels=16, num_classes=5)]
    model = MODELS.build(dict(model_config, auxiliary_heads=auxiliary))
    parts = parts_of(model)
    assert list(parts) == [
        'backbone', 'reassemble', 'convs', 'fusion', 'project', 'classifier', 'auxiliary heads',
    ]  # fmt: skip
    in_parts = [id(parameter) for part in parts.values() for parameter in part.parameters()]
    assert sorted(in_parts) == sorted(id(parameter) for parameter in model.parameters())


def test_a_model_of_other_parts_has_those_it_has() -> None:
    assert list(parts_of(nn.ModuleDict(dict(backbone=nn.Linear(2, 2))))) == ['backbone']
    assert 'auxiliary heads' not in parts_of(nn.ModuleDict(dict(auxiliary_heads=nn.ModuleList())))


def test_parts_are_told_in_the_order_in_which_they_run(model_config: dict) -> None:
    model, calls = MODELS.build(model_config), []
    images = torch.zeros(1, 3, 32, 32)
    with watch_parts(model, lambda name: calls.append(('+', name)), lambda name: calls.append(('-', name))):
        watched = model.eval()(images)
    assert calls[:4] == [('+', 'backbone'), ('-', 'backbone'), ('+', 'reassemble'), ('-', 'reassemble')]
    assert calls.count(('+', 'convs')) == calls.count(('-', 'fusion')) == 4
    calls.clear()
    assert torch.equal(model(images), watched)
    assert not calls


def test_hooks_go_where_the_work_fails(model_config: dict) -> None:
    model = MODELS.build(model_config)
    with pytest.raises(RuntimeError, match='stop'), watch_parts(model, print, print):
        raise RuntimeError('stop')
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
