"""Models written for transformers compute there what they compute here."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from mmengine.config import Config

from dpt.checkpoints import load_model, save_weights
from dpt.checkpoints.published import recognise_published
from dpt.registry import MODELS

TOOL = 'model_converters/dpt2hf'
PREPROCESSOR = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True)
VIT = dict(img_size=64, patch_size=16, embed_dims=32, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3))
NECK = dict(type='DPTNeck', in_channels=32, channels=16, post_process_channels=(4, 8, 12, 16))
BIASES = dict(norm=None, residual_bias=True)
RELATIVE = dict(type='DepthHead', in_channels=16, output='relu', relative=True)
DINOV2 = {**VIT, 'img_size': 56, 'patch_size': 14, 'layer_scale_init': 1.0}
ANYTHING = dict(
    backbone=dict(type='VisionTransformer', **DINOV2, norm_taps=True),
    neck=dict(NECK, readout_type='ignore', odd_grids='lateral', **BIASES),
)
PARTS = {
    'DPT': dict(
        backbone=dict(type='VisionTransformer', **VIT, interpolate_mode='bilinear'),
        neck=dict(NECK, **BIASES),
        decode_head=RELATIVE,
    ),
    'DPT, other resizing': dict(
        backbone=dict(type='VisionTransformer', **VIT),
        neck=dict(NECK, readout_type='add', norm='BN'),
        decode_head=dict(RELATIVE, relative=False),
    ),
    'hybrid': dict(
        backbone=dict(
            type='HybridVisionTransformer',
            **{key: value for key, value in VIT.items() if key not in ('patch_size', 'out_indices')},
            out_indices=(1, 3),
            stem_channels=32,
            stage_channels=(128, 128, 256),
            weight_eps=0.01,  # large, so that it matters
            stage_depths=(1, 2, 1),
            interpolate_mode='bilinear',
        ),
        neck=dict(NECK, identity_levels=(0, 1), **{**BIASES, 'post_process_channels': (128, 128, 12, 16)}),
        decode_head=RELATIVE,
    ),
    'DPT with DINOv2': dict(
        backbone=dict(type='VisionTransformer', **DINOV2),
        neck=dict(NECK, channels=256, norm=None),
        decode_head=dict(RELATIVE, in_channels=256, project=True, relative=False),
    ),
    'Depth Anything': dict(ANYTHING, decode_head=dict(RELATIVE, upsample_factor=1.75, hidden_channels=8)),
    'Depth Anything, metric': dict(
        ANYTHING,
        decode_head=dict(
            type='DepthHead', in_channels=16, output='sigmoid', max_depth=20.0, upsample_factor=1.75
        ),
    ),
    'Depth Anything, timm': dict(
        backbone=dict(
            type='TimmBackbone',
            model_name='vit_small_patch14_dinov2',
            img_size=56,
            model_args=dict(embed_dim=32, num_heads=2, depth=4),
            out_indices=(0, 1, 2, 3),
            norm_taps=True,
        ),
        neck=ANYTHING['neck'],
        decode_head=dict(RELATIVE, upsample_factor=1.75),
    ),
    'segmentation': dict(
        backbone=dict(type='VisionTransformer', **VIT, interpolate_mode='bilinear'),
        neck=NECK,
        decode_head=dict(type='DPTHead', in_channels=16, num_classes=3, upsample_factor=2),
        auxiliary_heads=[dict(type='FCNHead', in_channels=16, num_classes=3)],
    ),
}


def model_config(parts: dict) -> dict:
    config = dict(data_preprocessor=PREPROCESSOR, **parts)
    if parts['decode_head']['type'] == 'DPTHead':
        return dict(config, type='EncoderDecoder')
    loss = 'ScaleShiftInvariantLoss' if parts['decode_head'].get('relative') else 'SiLogLoss'
    return dict(config, type='DepthEstimator', loss=dict(type=loss))


def built(parts: dict) -> torch.nn.Module:
    """A model of these parts with random weights and statistics."""
    torch.manual_seed(0)
    model = MODELS.build(model_config(parts))
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape) / max(tensor[0].numel(), 4) ** 0.5
                tensor.copy_(1 + noise.abs() if 'running_var' in name else noise + (tensor.ndim == 1))
    return model.eval()


@pytest.fixture
def written(call, tmp_path: Path):
    """Write a model with the tool; returns the model, the folder and what was printed."""

    def write(parts: dict, *arguments: object) -> tuple[torch.nn.Module, Path, str, str]:
        model = built(parts)
        segments = parts['decode_head']['type'] == 'DPTHead'
        dataset = dict(type='BaseSegDataset' if segments else 'BaseDepthDataset', pipeline=[])
        if segments:
            dataset['metainfo'] = dict(classes=('sky', 'tree', 'car'))
        config = dict(model=model_config(parts), test_dataloader=dict(dataset=dataset))
        Config(config).dump(tmp_path / 'config.py')
        save_weights(model.state_dict(), {}, tmp_path / 'model.pth')
        options = '--config', tmp_path / 'config.py', *arguments
        status, stdout, stderr = call(TOOL, tmp_path / 'model.pth', tmp_path / 'hf', *options)
        assert status == (1 if stderr else 0)
        return model, tmp_path / 'hf', stdout, stderr

    return write


@torch.no_grad()
@pytest.mark.parametrize('name', PARTS)
def test_transformers_computes_the_same(name: str, written) -> None:
    model, folder, stdout, stderr = written(PARTS[name], '--check')
    assert stderr == ''
    assert float(stdout.split()[-1]) <= 1e-5
    kind = json.loads((folder / 'config.json').read_text())['architectures'][0]
    loaded, report = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    if kind == 'DPTForSemanticSegmentation':
        assert loaded.config.id2label == {0: 'sky', 1: 'tree', 2: 'car'}
    config = recognise_published(folder / 'model.safetensors').model  # and back
    again = MODELS.build(config).eval()
    load_model(again, folder / 'model.safetensors')
    side = json.loads((folder / 'preprocessor_config.json').read_text())['size']['height']
    image = torch.randn(1, 3, side, side)
    expected = model(image)
    assert (again(image) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert getattr(again, 'relative', None) == getattr(model, 'relative', None)
    assert again.data_preprocessor.mean.flatten().tolist() == pytest.approx([127.5] * 3, abs=1e-3)


@torch.no_grad()
def test_position_embedding_is_resized_for_other_sizes(written) -> None:
    _, _, stdout, _ = written(PARTS['DPT, other resizing'], '--size', 96, '--check')
    assert 'note: the position embedding was resized' in stdout
    assert float(stdout.split()[-1]) <= 1e-5


@pytest.mark.parametrize(
    ('parts', 'words'),
    [
        (dict(PARTS['DPT'], decode_head=dict(RELATIVE, relative=False, output='softplus')), "output='relu'"),
        (
            dict(PARTS['Depth Anything'], neck=dict(ANYTHING['neck'], norm='BN')),
            'norm=None and residual_bias',
        ),
        (
            dict(
                PARTS['DPT'],
                neck=dict(NECK, norm='GN', channels=32),
                decode_head=dict(RELATIVE, in_channels=32),
            ),
            "norm 'BN' or None",
        ),
        (
            dict(PARTS['segmentation'], backbone=PARTS['Depth Anything']['backbone'], auxiliary_heads=None),
            'norm_taps=False',
        ),
    ],
)
def test_other_models_are_refused(parts: dict, words: str, written) -> None:
    _, folder, _, stderr = written(parts)
    assert words in stderr
    assert not folder.exists()
