"""ClassCheckHook and SyncBuffersHook."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dpt.engine import ClassCheckHook, SyncBuffersHook
from dpt.engine.hooks import check_class_names


def runner(num_classes: int, classes: tuple[str, ...]) -> SimpleNamespace:
    head = nn.Conv2d(3, num_classes, 1)
    head.num_classes = num_classes
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes)))
    model = nn.ModuleDict(dict(decode_head=head))
    return SimpleNamespace(model=model, train_dataloader=loader, test_dataloader=loader)


@pytest.mark.parametrize('stage', ['before_train', 'before_test'])
def test_a_wrong_number_of_classes_is_an_error(stage: str) -> None:
    getattr(ClassCheckHook(), stage)(runner(3, ('a', 'b', 'c')))
    with pytest.raises(ValueError, match='decode_head has num_classes=4.* has 3 classes'):
        getattr(ClassCheckHook(), stage)(runner(4, ('a', 'b', 'c')))


def test_the_number_of_classes_of_a_backbone_is_ignored() -> None:
    run = runner(3, ('a', 'b', 'c'))
    run.model['backbone'] = nn.Identity()
    run.model['backbone'].num_classes = 1000
    ClassCheckHook().before_train(run)


def test_names_of_classes_have_the_order_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr('dpt.engine.hooks.print_log', lambda line, *_: lines.append(line))
    meta = dict(dataset_meta=dict(classes=('sky', 'Road ', 'car')))
    torch.save(dict(meta=meta, state_dict={}), tmp_path / 'a.pth')
    for names in (('sky', 'road', 'car'), ('sky', 'road'), ()):
        check_class_names(tmp_path / 'a.pth', dict(classes=names))
    with pytest.raises(ValueError, match=r"class 1 is 'car' in the test data, but 'road' in .*a\.pth: name"):
        check_class_names(tmp_path / 'a.pth', dict(classes=('sky', 'car', 'road')))
    assert lines == []
    check_class_names(tmp_path / 'a.pth', dict(classes=('sky', 'street', 'car')))
    assert "class 1 is 'street' in the test data, but 'road'" in lines[0]


def test_only_statistics_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    averaged: list[torch.Tensor] = []
    monkeypatch.setattr('dpt.engine.distributed.all_reduce_params', lambda b, op: averaged.extend(b))
    monkeypatch.setattr('dpt.engine.distributed.get_world_size', lambda: 2)
    model = nn.Sequential(nn.BatchNorm2d(3))
    model.register_buffer('mean', torch.ones(3))
    SyncBuffersHook().after_train_iter(SimpleNamespace(model=model), 0)
    assert [id(b) for b in averaged] == [id(model[0].running_mean), id(model[0].running_var)]
