"""Variables that a config sets again though its base has computed values from them."""

from pathlib import Path

import pytest

from dpt.config import load_config
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


@pytest.mark.parametrize(
    ('text', 'name', 'keys'),
    [
        ('num_classes = 5', 'num_classes', 'model.decode_head.num_classes'),
        ('num_classes = 5\nmodel = dict(neck=None)', 'num_classes', 'model.decode_head.num_classes'),
        (
            'crop_size = (4, 4)',
            'crop_size',
            'model.data_preprocessor.size, train_dataloader.dataset.pipeline',
        ),
        ('train_pipeline = []', 'train_pipeline', 'train_dataloader.dataset.pipeline'),
    ],
)
def test_variables_set_again_without_effect_are_named(child, text: str, name: str, keys: str) -> None:
    message = (
        rf'child\.py: setting {name} again has no effect, because a base has computed {keys} from its own'
    )
    with pytest.raises(ValueError, match=message):
        load_config(child(text))


def test_a_partial_effect_is_logged(child, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr('dpt.config.inherited.print_log', lambda line, *_: lines.append(line))
    load_config(child('crop_size = (4, 4)\nmodel = dict(data_preprocessor=dict(size=crop_size))'))
    [line] = lines
    assert 'crop_size is set again, but train_dataloader.dataset.pipeline keeps the value' in line


@pytest.mark.parametrize(
    ('text', 'base'),
    [
        ('num_classes = 150', 'base'),
        ('num_classes = 5\nmodel = dict(decode_head=dict(num_classes=num_classes))', 'base'),
        ('model = dict(decode_head=dict(num_classes=_base_.num_classes))', 'middle'),
        ("model = dict(_delete_=True, type='Other')\nnum_classes = 5", 'base'),
        ('max_iters = 5', 'base'),
    ],
)
def test_variables_that_are_used_raise_no_alarm(
    child, text: str, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('dpt.config.inherited.print_log', lambda line, *_: pytest.fail(line))
    load_config(child(text, base))


def test_own_configs_raise_no_alarm(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('dpt.config.inherited.print_log', lambda line, *_: pytest.fail(line))
    for path in (repository / 'configs').rglob('*.py'):
        load_config(str(path))


@pytest.mark.parametrize(('options', 'expected'), [({}, 'b'), (dict(data_root=OptionText('c')), 'c')])
def test_data_root_set_again_reaches_the_data_sets(child, options: dict, expected: str) -> None:
    config = load_config(child("data_root = 'b'"), options)
    loaders = config.train_dataloader, config.val_dataloader, config.test_dataloader
    assert [loader.dataset.data_root for loader in loaders] == [expected, expected, 'other']
