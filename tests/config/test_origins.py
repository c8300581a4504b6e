"""Origins of the values of a merged config."""

from pathlib import Path

import pytest

from dpt.config.load import load_config
from dpt.config.origins import COMMAND_LINE, TOOLS, TRANSLATED, config_origins


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A config with two bases, one of which has its own base."""
    (tmp_path / 'root.py').write_text("a = dict(x=1, y=dict(p=1, q=2), z=[1, 2])\nkept = 'root'\n")
    (tmp_path / 'middle.py').write_text("_base_ = 'root.py'\na = dict(x=2, y=dict(q=2))\n")
    (tmp_path / 'other.py').write_text('b = dict(m=1, n=2)\nempty = dict()\n')
    (tmp_path / 'top.py').write_text(
        "_base_ = ['middle.py', 'other.py']\na = dict(z=[3])\nb = dict(_delete_=True, o=_base_.a.x)\n"
    )
    return tmp_path / 'top.py'


def origins(path: Path, options: dict | None = None) -> dict[str, tuple[object, str]]:
    return {key: (value, Path(origin).name) for key, value, origin in config_origins(str(path), options)}


def test_the_last_file_that_set_a_value_is_named(chain: Path) -> None:
    found = origins(chain)
    assert found.pop('work_dir')[1] == TOOLS
    assert found == {
        'a.x': (2, 'middle.py'),
        'a.y.p': (1, 'root.py'),
        'a.y.q': (2, 'middle.py'),  # set again to the same value
        'a.z': ([3], 'top.py'),
        'kept': ('root', 'root.py'),
        'b.o': (2, 'top.py'),  # b.m and b.n were deleted
        'empty': ({}, 'other.py'),
    }


def test_values_of_the_command_line_are_marked(repository: Path) -> None:
    options = {'total_batch_size': 4, 'model.backbone.init_cfg': None, 'data_root': 'elsewhere'}
    found = origins(repository / 'configs' / 'quickstart.py', options)
    assert found['total_batch_size'] == (4, COMMAND_LINE)
    assert found['model.backbone.init_cfg'] == (None, COMMAND_LINE)
    assert found['train_dataloader.dataset.data_root'] == ('elsewhere', COMMAND_LINE)
    assert found['model.backbone.embed_dims'] == (128, 'quickstart.py')
    assert found['model.backbone.type'] == ('VisionTransformer', 'dpt_vit-b16.py')


def test_every_value_of_every_config_has_an_origin(repository: Path) -> None:
    for path in (repository / 'configs').glob('*.py'):
        merged = load_config(str(path))
        lines = config_origins(str(path))
        assert {key.split('.')[0] for key, _, _ in lines} == set(merged)
        unknown = [key for key, _, origin in lines if not Path(origin).is_file()]
        assert unknown == ['work_dir']


def test_translated_values_are_marked(tmp_path: Path) -> None:
    (tmp_path / 'mmseg.py').write_text(
        "default_scope = 'mmseg'\n"
        "model = dict(type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor',\n"
        '    mean=[1, 2, 3], std=[1, 1, 1], bgr_to_rgb=True, pad_val=0, seg_pad_val=255),\n'
        "    backbone=dict(type='VisionTransformer', img_size=32, embed_dims=32, num_layers=4, num_heads=2,\n"
        '        out_indices=(0, 1, 2, 3), final_norm=False, with_cls_token=True, output_cls_token=True),\n'
        "    decode_head=dict(type='DPTHead', in_channels=(32, 32, 32, 32), channels=16, embed_dims=32,\n"
        '        post_process_channels=[8, 16, 32, 32], num_classes=3, readout_type="project",\n'
        '        input_transform="multiple_select", in_index=(0, 1, 2, 3), norm_cfg=dict(type="SyncBN"),\n'
        "        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),\n"
        "    auxiliary_head=None, train_cfg=dict(), test_cfg=dict(mode='whole'))\n"
    )
    found = origins(tmp_path / 'mmseg.py')
    assert found['model.neck.type'] == ('DPTNeck', TRANSLATED)
    assert found['model.backbone.embed_dims'] == (32, 'mmseg.py')
