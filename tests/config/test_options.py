"""Values of --cfg-options keep their characters and take the type of what they replace."""

from pathlib import Path
from typing import Any

import pytest

from dpt.config import check_config, load_config
from dpt.config.options import OptionText

CONFIG = """
default_scope = 'dpt'
work_dir = 'out'
data_root = 'data'
load_from = None
resume = False
model = dict(
    type='EncoderDecoder',
    backbone=dict(type='VisionTransformer', out_indices=(2, 5, 8, 11), init_cfg=dict(type='Pretrained')),
    decode_head=dict(type='DPTHead', dropout_ratio=0.1, norm='BN', channels=None),
    data_preprocessor=dict(mean=[1.5, 2.5, 3.5], size=(64, 64), size_divisor=None),
)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=dict(classes=['car', 'road'], palette=[[1, 2, 3], [4, 5, 6]]),
        pipeline=[dict(type='Resize', scale=(8, 4)), dict(type='RandomChoiceResize', scales=[(4, 8)])],
    ),
)
val_evaluator = dict(iou_metrics='mIoU', beta=1)
"""
DATA = 'train_dataloader.dataset'


def option(folder: Path, key: str, text: str) -> Any:
    path = folder / 'config.py'
    path.write_text(CONFIG)
    value: Any = load_config(str(path), {key: OptionText(text)})
    for name in key.split('.'):
        value = value[int(name) if name.isdigit() else name]
    return value


@pytest.mark.parametrize(
    ('key', 'text', 'expected'),
    [
        ('data_root', '/my set/a, b (1)', '/my set/a, b (1)'),
        ('data_root', '007', '007'),
        ('data_root', ' x ', ' x '),
        ('data_root', 'True', 'True'),
        ('work_dir', '77', '77'),
        ('work_dir', '1e3', '1e3'),
        ('load_from', '12', '12'),  # None in the config: Runner takes a text
        ('load_from', '/a,b/c d.pth', '/a,b/c d.pth'),
        (f'{DATA}.ann_file', '2024', '2024'),  # not in the config: the data set takes a text
        ('model.backbone.init_cfg.checkpoint', '1', '1'),
        (
            f'{DATA}.metainfo.classes',
            "[traffic light, road, 3, 'a, b']",
            ['traffic light', 'road', '3', 'a, b'],
        ),
        (f'{DATA}.metainfo.classes', 'traffic light,12', ['traffic light', '12']),
        (f'{DATA}.metainfo.classes', "[driver's seat, b]", ["driver's seat", 'b']),
        (f'{DATA}.metainfo.palette', '[(0,0,0),(255,255,255)]', [[0, 0, 0], [255, 255, 255]]),
        (f'{DATA}.pipeline.0.scale', '[16,8]', (16, 8)),
        (f'{DATA}.pipeline.1.scales', '[(16,8), (4,2)]', [(16, 8), (4, 2)]),
        ('model.backbone.out_indices', '0,1,2,3', (0, 1, 2, 3)),
        ('model.decode_head.dropout_ratio', '0', 0.0),
        ('model.decode_head.norm', 'None', None),
        ('model.decode_head.norm', '2', '2'),
        ('model.decode_head.channels', '64', 64),
        ('model.data_preprocessor.mean', '[127,127,127]', [127.0, 127.0, 127.0]),
        ('model.data_preprocessor.size', 'None', None),
        ('model.data_preprocessor.size_divisor', '32', 32),
        ('train_dataloader.batch_size', '1e1', 10),
        ('train_dataloader.num_workers', '3', 3),
        ('train_dataloader.batch_size', '0.5', 0.5),
        ('val_evaluator.iou_metrics', '[mIoU, mFscore]', ['mIoU', 'mFscore']),
        ('resume', 'true', True),
        ('resume', '0', False),
    ],
)
def test_option_has_the_type_of_the_value_it_replaces(
    tmp_path: Path, key: str, text: str, expected: object
) -> None:
    value = option(tmp_path, key, text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize('key', [f'{DATA}.metainfo.classes.1', f'{DATA}.pipeline.7.scale'])
def test_key_that_does_not_fit_the_config_is_one_line(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=f'--cfg-options {key}: a key does not fit the config'):
        option(tmp_path, key, 'x')


def test_text_for_a_boolean_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='--cfg-options resume=no: expected True or False'):
        option(tmp_path, 'resume', 'no')


def test_numbers_for_paths_in_files_are_texts_or_one_line(tmp_path: Path) -> None:
    path = tmp_path / 'config.py'
    path.write_text(CONFIG + 'work_dir = 77\nload_from = 3\n')
    config = load_config(str(path))
    assert config.work_dir == '77'
    with pytest.raises(ValueError, match='load_from: 3 is not a string'):
        check_config(config, 'train')
