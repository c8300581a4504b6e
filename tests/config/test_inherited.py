"""Values that a config inherits, and variables that it overrides without effect."""

from pathlib import Path

import pytest

from dpt.config import check_config, load_config
from dpt.config.options import OptionText

BASE = """
num_classes = 150
crop_size = (8, 8)
data_root = 'a'
train_pipeline = [dict(type='RandomCrop', crop_size=crop_size)]
model = dict(decode_head=dict(num_classes=num_classes), data_preprocessor=dict(size=crop_size))
data = dict(type='BaseSegDataset', data_root=data_root)
train_dataloader = dict(dataset=dict(**data, pipeline=train_pipeline))
val_dataloader = dict(dataset=data)
test_dataloader = dict(dataset=dict(type='BaseSegDataset', data_root='other'))
"""


@pytest.fixture
def child(tmp_path: Path):
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'middle.py').write_text("_base_ = ['base.py']\nnum_classes = 59\n")

    def write(text: str, base: str = 'base') -> str:
        (tmp_path / 'child.py').write_text(f"_base_ = ['{base}.py']\n{text}\n")
        return str(tmp_path / 'child.py')

    return write


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr('dpt.config.load.print_log', lambda line, *_: lines.append(line))
    return lines


@pytest.mark.parametrize(
    ('text', 'name'),
    [
        ('num_classes = 5', 'num_classes'),
        ('num_classes = 5\nmodel = dict(neck=None)', 'num_classes'),
        ('crop_size = (4, 4)', 'crop_size'),
        ("data_root = 'b'\ntrain_pipeline = []", 'train_pipeline'),
    ],
)
def test_overrides_without_effect_are_named(child, text: str, name: str, logged: list[str]) -> None:
    load_config(child(text))
    [line] = logged
    assert f'child.py: overriding {name} has no effect' in line


@pytest.mark.parametrize(
    ('text', 'base'),
    [
        ('num_classes = 150', 'base'),
        ('num_classes = 5\nmodel = dict(decode_head=dict(num_classes=num_classes))', 'base'),
        ("data_root = 'b'\ncrop_size = (4, 4)\nmodel = dict(data_preprocessor=dict(size=crop_size))", 'base'),
        ('model = dict(decode_head=dict(num_classes=_base_.num_classes))', 'middle'),
        ('for num_classes in (1, 2): pass', 'base'),
        ('own = 5', 'base'),
    ],
)
def test_overrides_that_are_used_raise_no_alarm(child, text: str, base: str, logged: list[str]) -> None:
    load_config(child(text, base))
    assert not logged


def test_own_configs_raise_no_alarm(repository: Path, logged: list[str]) -> None:
    for path in (repository / 'configs').glob('*.py'):
        load_config(str(path))
    assert not logged


@pytest.mark.parametrize(('options', 'expected'), [({}, 'b'), (dict(data_root=OptionText('c')), 'c')])
def test_data_root_set_again_reaches_the_data_sets(child, options: dict, expected: str) -> None:
    config = load_config(child("data_root = 'b'"), options)
    loaders = config.train_dataloader, config.val_dataloader, config.test_dataloader
    assert [loader.dataset.data_root for loader in loaders] == [expected, expected, 'other']


def test_data_root_that_is_used_stays_where_it_is_written(child) -> None:
    text = "data_root = 'b'\ntest_dataloader = dict(dataset=dict(data_root=data_root))"
    config = load_config(child(text))
    loaders = config.train_dataloader, config.val_dataloader, config.test_dataloader
    assert [loader.dataset.data_root for loader in loaders] == ['a', 'a', 'b']


def test_inherited_keys_of_another_type_name_the_remedy(repository: Path, tmp_path: Path) -> None:
    base = repository / 'configs' / 'quickstart.py'
    (tmp_path / 'child.py').write_text(
        f"_base_ = [{str(base)!r}]\nmodel = dict(decode_head=dict(type='FCNHead', upsample_factor=2))\n"
        "val_evaluator = dict(iou_metric='mIoU')\n"
    )
    (tmp_path / 'own.py').write_text(
        "_base_ = ['child.py']\nmodel = dict(neck=dict(type='SegDataPreProcessor'))\n"
    )
    with pytest.raises(ValueError, match='own.py') as caught:
        check_config(load_config(str(tmp_path / 'own.py')), 'train')
    lines = [line.partition('.py: ')[2] for line in str(caught.value).splitlines()]
    neck = next(line for line in lines if line.startswith('model.neck.in_channels'))
    assert neck.endswith('set _delete_=True in model.neck to discard the inherited keys')
    assert 'dpt_vit-b16.py: set' in next(line for line in lines if line.startswith('model.neck.norm'))
    own = [line for line in lines if line.startswith(('model.decode_head.upsample', 'val_evaluator'))]
    assert len(own) == 2
    assert not any('_delete_' in line for line in own)


def test_modules_that_cannot_be_imported_are_named(tmp_path: Path) -> None:
    (tmp_path / 'parts_with_a_mistake.py').write_text('import gone_package\n')
    for name, cause in (('gone_parts', 'gone_parts'), ('parts_with_a_mistake', 'gone_package')):
        (tmp_path / 'config.py').write_text(f"custom_imports = dict(imports=['{name}'])\n")
        with pytest.raises(
            ValueError, match=rf"{name} cannot be imported \(No module named '{cause}'\)"
        ) as error:
            load_config(str(tmp_path / 'config.py'))
        assert f'the folder of the config ({tmp_path})' in str(error.value)


def test_own_classes_with_a_registered_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'own_dice.py').write_text(
        'from dpt.registry import MODELS\n\n\n@MODELS.register_module()\nclass DiceLoss:\n    pass\n'
    )
    (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['own_dice'])\n")
    with pytest.raises(ValueError, match=r'own_dice: DiceLoss is already registered .* another name'):
        load_config(str(tmp_path / 'config.py'))
