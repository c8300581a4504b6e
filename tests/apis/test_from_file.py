"""A config that came with weights is data: it builds registered parts, and runs nothing."""

from pathlib import Path

import pytest
import torch

from dpt.apis import Segmenter, config_of, init_model
from dpt.checkpoints import read_meta, read_state_dict, save_weights


def with_config(model_file: Path, target: Path, text: str | None, **meta: object) -> Path:
    kept = {**read_meta(model_file), **meta}
    kept = {key: value for key, value in kept.items() if key != 'cfg'}
    save_weights(read_state_dict(model_file), kept if text is None else dict(kept, cfg=text), target)
    return target


def test_the_model_is_that_of_the_config_file(model_file: Path) -> None:
    model = init_model(config_of(model_file), model_file, 'cpu')
    assert model.dataset_meta['classes'][0] == 'sky'
    assert model.backbone.embed_dims == 16
    assert set(model.cfg) == {'default_scope', 'model', 'test_dataloader', 'test_cfg'}


def test_no_pretrained_file_is_looked_for(model_file: Path, config_text: str, tmp_path: Path) -> None:
    text = config_text.replace(
        'embed_dims=16', "embed_dims=16, init_cfg=dict(type='Pretrained', checkpoint='gone.pth')"
    )
    assert 'gone.pth' in text
    assert 'init_cfg' not in config_of(with_config(model_file, tmp_path / 'm.pth', text)).model.backbone


ATTACKS = {
    'a call': ("load_from = __import__('os').system('touch {mark}')", 'line .* is not plain data'),
    'an import': ('import os', 'is not plain data'),
    'code in a dict': ("extra = dict(a=dict(b=open('{mark}', 'w')))", 'is not plain data'),
    'a comprehension': ('extra = [x for x in (1, 2)]', 'is not plain data'),
    'the address of a function': (
        "model = dict(type='os.system', command='touch {mark}')",
        'address of code',
    ),
    'one inside the pipeline': (
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='subprocess.run', args=['touch', '{mark}'])"
        ']))',
        'address of code',
    ),
    'an unknown part': ("model = dict(type='Sequential')", 'none of the parts registered'),
    'a scope': ("model = dict(type='EncoderDecoder', _scope_='mmengine')", 'none of the parts registered'),
}


@pytest.mark.parametrize('attack', ATTACKS)
def test_nothing_in_a_config_is_run(model_file: Path, config_text: str, tmp_path: Path, attack: str) -> None:
    line, message = ATTACKS[attack]
    mark = tmp_path / 'mark'
    text = f'{config_text}\n{line.format(mark=mark)}\n'
    path = with_config(model_file, tmp_path / 'm.safetensors', text)
    with pytest.raises(ValueError, match=message) as caught:
        Segmenter(path, device='cpu')
    assert str(path) in str(caught.value)
    assert not mark.exists()


def test_files_without_a_config_say_what_to_do(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='holds no config: give the config file'):
        config_of(with_config(model_file, tmp_path / 'm.pth', None))
    with pytest.raises(ValueError, match='it lacks test_dataloader'):
        config_of(with_config(model_file, tmp_path / 'n.pth', "model = dict(type='EncoderDecoder')"))
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        config_of(tmp_path / 'gone.pth')


def test_a_config_of_mmsegmentation_is_translated(model_file: Path, tmp_path: Path) -> None:
    head = (
        "type='DPTHead', in_channels=(32, 32, 32, 32), channels=16, embed_dims=32, "
        'post_process_channels=[8, 16, 32, 32], num_classes=3, readout_type="project", input_transform='
        '"multiple_select", in_index=(0, 1, 2, 3), norm_cfg=dict(type="SyncBN", requires_grad=True), '
        'loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0)'
    )
    text = (
        "default_scope = 'mmseg'\n"
        "model = dict(type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor', mean=[1, 2,"
        ' 3], std=[1, 1, 1], bgr_to_rgb=True, pad_val=0, seg_pad_val=255), backbone=dict('
        "type='VisionTransformer', img_size=32, embed_dims=32, num_layers=4, num_heads=2, out_indices=(0, 1,"
        ' 2, 3), final_norm=False, with_cls_token=True, output_cls_token=True), decode_head=dict('
        + head
        + '), '
        "auxiliary_head=None, train_cfg=dict(), test_cfg=dict(mode='whole'))\n"
        "test_dataloader = dict(dataset=dict(type='ADE20KDataset', pipeline=[dict(type='LoadImageFromFile'), "
        "dict(type='Resize', scale=(64, 32), keep_ratio=True), dict(type='PackSegInputs')]))\n"
    )
    config = config_of(with_config(model_file, tmp_path / 'm.pth', text))
    assert config.model.neck.type == 'DPTNeck'
    assert config.default_scope == 'dpt'


def test_classes_without_names_in_the_file_are_those_of_the_config(model_file: Path, tmp_path: Path) -> None:
    content = read_meta(model_file)
    path = with_config(model_file, tmp_path / 'm.pth', content['cfg'], dataset_meta={})
    assert Segmenter(path, device='cpu').classes[5] == 'car'


def test_a_file_with_other_classes_than_the_model_is_refused(model_file: Path, tmp_path: Path) -> None:
    path = with_config(
        model_file, tmp_path / 'm.pth', read_meta(model_file)['cfg'], dataset_meta=dict(classes=['a', 'b'])
    )
    with pytest.raises(ValueError, match='2 classes are named, but the model tells 6 apart'):
        Segmenter(path, device='cpu')


def test_weights_as_training_writes_them_will_do(model_file: Path, tmp_path: Path) -> None:
    torch.save(
        dict(state_dict=read_state_dict(model_file), meta=read_meta(model_file)), tmp_path / 'iter_4.pth'
    )
    assert Segmenter(tmp_path / 'iter_4.pth', device='cpu').classes[0] == 'sky'
