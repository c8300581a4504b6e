"""Loading configs: options, work directory, custom modules, mistakes."""

import sys
from pathlib import Path

import pytest

from dpt.config import load_config
from dpt.config.walk import innermost_datasets

ADE = 'configs/dpt_vit-b16_512x512_160k_ade20k.py'


def test_data_root_reaches_every_data_set(repository: Path) -> None:
    config = load_config(str(repository / ADE), dict(data_root='/elsewhere'))
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert config[loader].dataset.data_root == '/elsewhere'


def test_data_root_reaches_wrapped_data_sets(tmp_path: Path) -> None:
    config = tmp_path / 'config.py'
    config.write_text(
        "data_root = 'a'\n"
        "both = dict(type='ConcatDataset', datasets=[dict(data_root=data_root), dict(data_root=data_root)])\n"
        "train_dataloader = dict(dataset=dict(type='RepeatDataset', dataset=both))\n"
    )
    loaded = load_config(str(config), dict(data_root='/elsewhere'))
    assert [one.data_root for one in loaded.train_dataloader.dataset.dataset.datasets] == ['/elsewhere'] * 2
    config.write_text("train_dataloader = dict(dataset=dict(data_root='a'))\n")
    with pytest.raises(ValueError, match='has no effect'):
        load_config(str(config), dict(data_root='/elsewhere'))


def test_dotted_options_and_work_dir(repository: Path) -> None:
    config = load_config(str(repository / ADE), {'model.neck.channels': 64}, 'out')
    assert config.model.neck.channels == 64
    assert config.work_dir == 'out'
    assert load_config(str(repository / ADE)).work_dir == 'work_dirs/dpt_vit-b16_512x512_160k_ade20k'


def test_options_without_effect_are_rejected(repository: Path) -> None:
    with pytest.raises(ValueError, match='num_classes is read only while the config file is parsed'):
        load_config(str(repository / ADE), dict(num_classes=3))
    with pytest.raises(ValueError, match=r'train_pipeline.*\(train_dataloader\.dataset\.pipeline\)'):
        load_config(str(repository / ADE), {'train_pipeline.0.type': 'X'})
    users = r'\(param_scheduler\.1\.end, train_cfg\.max_iters\)'
    with pytest.raises(ValueError, match=f'set the keys with its value {users}'):
        load_config(str(repository / 'configs' / 'quickstart.py'), dict(max_iters=9))


def test_a_missing_config_is_named() -> None:
    with pytest.raises(FileNotFoundError, match='nowhere.py'):
        load_config('nowhere.py')


def test_misspelt_keys_are_named_with_the_nearest_one(repository: Path) -> None:
    with pytest.raises(ValueError, match='dataroot: the config does not have this key; .* data_root'):
        load_config(str(repository / ADE), dict(dataroot='/x'))


def test_modules_can_be_named_as_an_option(repository: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / 'parts_named_as_an_option.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    load_config(str(repository / ADE), {'custom_imports.imports': ['parts_named_as_an_option']})
    assert 'parts_named_as_an_option' in sys.modules


def test_syntax_errors_are_reported_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / 'broken.py'
    path.write_text('max_iters = 1\nmodel = dict(\n')
    with pytest.raises(ValueError, match=r"broken\.py or a base of it, line 2: '\(' was never closed: model"):
        load_config(str(path))


def test_modules_beside_the_config_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / 'parts_beside_the_config.py').write_text('')
    (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['parts_beside_the_config'])\n")
    load_config(str(tmp_path / 'config.py'))
    assert 'parts_beside_the_config' in sys.modules


def test_hooks_that_earlier_versions_dumped_are_dropped(tmp_path: Path) -> None:
    (tmp_path / 'config.py').write_text(
        "rank_timeout = 600\ncustom_hooks = [dict(type='RankWatchHook', timeout=600), "
        "dict(type='UtilizationHook'), dict(type='EMAHook')]\n"
    )
    config = load_config(str(tmp_path / 'config.py'))
    assert 'rank_timeout' not in config
    assert [hook.type for hook in config.custom_hooks] == ['EMAHook']


def test_data_sets_must_be_dicts() -> None:
    first, second = dict(type='ADE20KDataset'), dict(type='CamVidDataset')
    joined = dict(type='ConcatDataset', datasets=[first, dict(type='RepeatDataset', dataset=second, times=2)])
    assert innermost_datasets(joined) == [first, second]
    assert innermost_datasets(None) == []
    with pytest.raises(ValueError, match=r"must be a dict; .* use dict\(type='ConcatDataset'"):
        innermost_datasets([first])
