"""Training, testing, inference and export with today's backbones and with LoRA, in this process."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from outputs import result_of

from dpt.apis import Predictor
from dpt.checkpoints import read_meta, read_state_dict
from dpt.models.backbones import TimmBackbone

VIT = dict(embed_dim=16, depth=4, num_heads=2)
PYRAMID = dict(readout_type='ignore', identity_levels=(0, 1, 2, 3), post_process_channels=(8, 8, 16, 16))
PLAIN = dict(readout_type='ignore', post_process_channels=(4, 8, 8, 8))
MODELS = {
    'vit_base_patch14_reg4_dinov2': (dict(img_size=28, norm_taps=True, model_args=VIT), PLAIN),
    'vit_base_patch16_dinov3': (dict(norm_taps=True, model_args=VIT), PLAIN),
    'convnext_tiny': (dict(model_args=dict(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))), PYRAMID),
    'swin_tiny_patch4_window7_224': (
        dict(model_args=dict(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))),
        dict(PYRAMID, post_process_channels=(8, 16, 32, 64)),
    ),
}
DINOV2 = 'vit_base_patch14_reg4_dinov2'


@pytest.fixture
def written(tiny_config, tmp_path):
    """Write a config of the tiny data for a backbone."""

    def write(name: str, **changes) -> Path:
        backbone, neck = MODELS[name]
        backbone = dict(
            backbone, type='TimmBackbone', model_name=name, out_indices=(0, 1, 2, 3), _delete_=True
        )
        model = dict(backbone=dict(backbone, **changes), neck=dict(neck, norm=None))
        path = tmp_path / 'mine.py'
        path.write_text(f'_base_ = [{str(tiny_config)!r}]\nmodel = {model!r}\n')
        return path

    return write


def done(called: tuple[int, str, str]) -> str:
    status, printed, error = called
    assert status == 0, error
    return printed


def trained_by(call, config: Path, *options: object) -> Path:
    work_dir = config.parent / 'work'
    done(call('train', config, '--work-dir', work_dir, *options))
    return work_dir / 'iter_4.pth'


@pytest.mark.parametrize('name', MODELS)
def test_a_model_goes_through_all_tools(name: str, call, written, tiny_config, tmp_path) -> None:
    config = written(name)
    checkpoint = trained_by(call, config)
    last = read_meta(next(checkpoint.parent.glob('best_mIoU_iter_*.pth')))['metric']['mIoU']
    tested = result_of(done(call('test', config, checkpoint, '--work-dir', tmp_path / 'test')))
    assert tested['mIoU'] == pytest.approx(last, abs=0.01)
    images = sorted((tiny_config.parent / 'data' / 'images' / 'validation').iterdir())[:2]
    done(call('infer', checkpoint, *images, '--out', tmp_path / 'labels', '--device', 'cpu'))
    predictor = Predictor(checkpoint, device='cpu')
    for image in images:
        labels = cv2.imread(str(tmp_path / 'labels' / f'{image.stem}.png'), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(labels, predictor(image).labels)
    out = tmp_path / 'model.pt2'
    options = ('--format', 'torch_export', '--no-dynamic', '--out', out, '--check', images[0])
    assert 'agreement: 100' in done(call('export', checkpoint, *options))
    assert out.is_file()


def test_adapters_train_resume_and_are_published(call, written, tiny_config, tmp_path) -> None:
    torch.manual_seed(0)
    pretrained = TimmBackbone(DINOV2, out_indices=(0, 1, 2, 3), **MODELS[DINOV2][0])
    for parameter in pretrained.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    weights = tmp_path / 'pretrained.pth'
    torch.save({key.removeprefix('model.'): value for key, value in pretrained.state_dict().items()}, weights)
    config = written(DINOV2, lora=dict(r=2), init_cfg=dict(type='Pretrained', checkpoint=str(weights)))
    two = ('train_cfg.max_iters=2', 'default_hooks.checkpoint.interval=2')
    trained_by(call, config, '--cfg-options', *two)
    checkpoint = trained_by(call, config, '--resume')
    assert read_meta(checkpoint)['iter'] == 4
    log = next(checkpoint.parent.glob('*/*.log')).read_text()
    assert re.search(r'frozen parts: [\d,]+ of [\d,]+ parameters are trained .*MiB \(\d+\.\d % less\)', log)
    state = read_state_dict(checkpoint)
    base = {
        key.replace('.base_layer', ''): value for key, value in state.items() if key.startswith('backbone.')
    }
    for key, value in pretrained.state_dict().items():
        assert base[f'backbone.{key}'].equal(value)
    assert any(value.any() for key, value in state.items() if '.lora_B.' in key)

    def published(*options: object) -> Path:
        printed = done(call('publish_model', checkpoint, tmp_path / 'out.safetensors', *options))
        return Path(re.search(r'written to (\S+)', printed)[1])

    whole, small = published(), published('--adapters')
    assert not any('lora' in key or 'base_layer' in key for key in read_state_dict(whole))
    assert 'lora' not in read_meta(whole)['cfg']
    assert small.stat().st_size < whole.stat().st_size
    image = next((tiny_config.parent / 'data' / 'images' / 'validation').iterdir())
    expected = Predictor(checkpoint, device='cpu')(image).labels
    for predictor in (Predictor(whole, device='cpu'), Predictor(small, config, device='cpu')):
        assert (predictor(image).labels == expected).mean() > 0.999
    options = (f'load_from={small}', 'train_cfg.max_iters=1', 'train_cfg.val_interval=1')
    again = tmp_path / 'again'
    done(call('train', config, '--work-dir', again, '--cfg-options', *options))
    assert f'tensors from {small}' in next(again.glob('*/*.log')).read_text()
    content = torch.load(checkpoint, weights_only=False)
    content['state_dict']['backbone.model.cls_token'] += 1  # as load_from of a whole model may
    torch.save(content, tmp_path / 'other.pth')
    content['meta']['cfg'] = re.sub(r'init_cfg=dict\([^)]*\)', 'init_cfg=None', content['meta']['cfg'])
    torch.save(content, tmp_path / 'unnamed.pth')
    for name, words in (('other', 'were not trained on the weights of'), ('unnamed', 'which has none')):
        options = (tmp_path / f'{name}.pth', tmp_path / 'x.safetensors', '--adapters')
        status, _, error = call('publish_model', *options)
        assert (status, error.count('\n'), words in error) == (1, 1, True), error
    torch.save({**torch.load(weights), 'cls_token': torch.ones(1, 1, 16)}, weights)
    status, _, error = call('test', config, small, '--work-dir', tmp_path / 'test')
    assert (status, 'without the weights they were trained on' in error) == (1, True)
