"""The converter as a user runs it, and what it leaves behind when it refuses."""

import os
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dpt.checkpoints import checkpoint_hash, load_backbone, read_checkpoint, read_state_dict
from dpt.models.backbones import VisionTransformer

TOOL = 'model_converters/vit2mmseg'
WIDTH = 8


def _timm_weights(layers=2, **extra) -> dict[str, torch.Tensor]:
    """A tiny ViT in timm's keys, no two tensors alike."""
    shapes = {
        'cls_token': (1, 1, WIDTH),
        'pos_embed': (1, 5, WIDTH),
        'patch_embed.proj.weight': (WIDTH, 3, 4, 4),
        'patch_embed.proj.bias': (WIDTH,),
        'norm.weight': (WIDTH,),
        'norm.bias': (WIDTH,),
        'head.weight': (3, WIDTH),
        'head.bias': (3,),
    }
    for i in range(layers):
        for name, rows, columns in (
            ('attn.qkv', 3 * WIDTH, WIDTH),
            ('attn.proj', WIDTH, WIDTH),
            ('mlp.fc1', 2 * WIDTH, WIDTH),
            ('mlp.fc2', WIDTH, 2 * WIDTH),
        ):
            shapes.update({f'blocks.{i}.{name}.weight': (rows, columns), f'blocks.{i}.{name}.bias': (rows,)})
        for name in ('norm1', 'norm2'):
            shapes.update({f'blocks.{i}.{name}.weight': (WIDTH,), f'blocks.{i}.{name}.bias': (WIDTH,)})
    return {**{key: torch.full(shape, float(i)) for i, (key, shape) in enumerate(shapes.items())}, **extra}


ONE = torch.ones(1)
WHOLE = (
    'backbone.layers.0.ln1.weight',
    'backbone.patch_embed.projection.weight',
    'decode_head.conv_seg.weight',
)
GATED = {f'blocks.{i}.mlp.fc2.weight': torch.ones(WIDTH, WIDTH) for i in (0, 1)}


def _assert_converted(tensors):
    source = _timm_weights()
    assert len(tensors) == len(source) - 2
    for ours, theirs in {
        'cls_token': 'cls_token',
        'pos_embed': 'pos_embed',
        'patch_embed.projection.weight': 'patch_embed.proj.weight',
        'layers.0.ln1.weight': 'blocks.0.norm1.weight',
        'layers.1.attn.attn.in_proj_bias': 'blocks.1.attn.qkv.bias',
        'ln1.weight': 'norm.weight',
    }.items():
        assert torch.equal(tensors[ours], source[theirs])


def test_as_a_user_runs_it(run_tool, tmp_path):
    source, target = tmp_path / 'vit.safetensors', tmp_path / 'new' / 'folder' / 'out.pth'
    save_file(_timm_weights(), source)
    tool = f'tools/{TOOL}.py'
    done = run_tool(tool, source, '--dry-run')
    assert '32 keys: 30 mapped, 2 dropped' in done.stdout
    assert 'nothing was written' in done.stdout
    assert list(tmp_path.iterdir()) == [source]
    done = run_tool(tool, source, target)
    assert done.stderr == ''
    assert re.search(r'   2 x blocks\.\*\.norm1\.weight +-> layers\.\*\.ln1\.weight', done.stdout)
    assert re.search(r'head\.weight +-> dropped: classifier of the pretraining task', done.stdout)
    content = read_checkpoint(target)
    _assert_converted(content['state_dict'])
    assert content['meta'] == {
        'converter': 'vit2mmseg',
        'source': 'vit.safetensors',
        'source_sha256': checkpoint_hash(source),
    }
    assert list(target.parent.iterdir()) == [target]


def test_printed_values_make_a_fitting_backbone(call, tmp_path):
    torch.save(_timm_weights(), tmp_path / 'vit.pth')
    _, printed, _ = call(TOOL, tmp_path / 'vit.pth', tmp_path / 'out.safetensors')
    sizes = dict(embed_dims=8, num_layers=2, patch_size=4, img_size=8, mlp_ratio=2, norm_eps=1e-06)
    assert f'backbone=dict({", ".join(f"{key}={value}" for key, value in sizes.items())})' in printed
    assert 'num_heads: not in the file' in printed
    assert 'mean and std differ between models of this source' in printed
    load_backbone(VisionTransformer(num_heads=2, out_indices=(1,), **sizes), tmp_path / 'out.safetensors')


def test_settings_of_dinov2_are_printed(call, tmp_path):
    scaled = _timm_weights(mask_token=torch.ones(1, WIDTH))
    scaled.update({f'blocks.{i}.ls{j}.gamma': torch.ones(WIDTH) for i in (0, 1) for j in (1, 2)})
    del scaled['patch_embed.proj.bias']
    torch.save(scaled, tmp_path / 'dinov2.pth')
    _, printed, _ = call(TOOL, tmp_path / 'dinov2.pth', '--dry-run')
    assert 'patch_bias=False, layer_scale_init=1e-5, norm_eps=1e-06)' in printed
    assert 'data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])' in printed


def test_googles_files_show_their_heads_and_pixels(call, tmp_path):
    name = 'Transformer/encoderblock_0'
    attention = f'{name}/MultiHeadDotProductAttention_1'
    arrays = {f'{attention}/{part}/kernel': (WIDTH, 2, 4) for part in ('query', 'key', 'value')}
    arrays |= {f'{attention}/{part}/bias': (2, 4) for part in ('query', 'key', 'value')}
    arrays |= {f'{attention}/out/kernel': (2, 4, WIDTH), f'{attention}/out/bias': (WIDTH,)}
    arrays |= {f'{name}/LayerNorm_{i}/{kind}': (WIDTH,) for i in (0, 2) for kind in ('scale', 'bias')}
    for i in (0, 1):
        arrays |= {f'{name}/MlpBlock_3/Dense_{i}/kernel': (WIDTH, WIDTH)}
        arrays |= {f'{name}/MlpBlock_3/Dense_{i}/bias': (WIDTH,)}
    arrays |= {'cls': (1, 1, WIDTH), 'Transformer/posembed_input/pos_embedding': (1, 10, WIDTH)}
    arrays |= {'embedding/kernel': (4, 4, 3, WIDTH), 'embedding/bias': (WIDTH,)}
    np.savez(tmp_path / 'vit.npz', **{key: np.zeros(shape, np.float32) for key, shape in arrays.items()})
    code, stdout, _ = call(TOOL, tmp_path / 'vit.npz', '--dry-run')
    assert code == 0
    assert 'img_size=12, mlp_ratio=1, norm_eps=1e-06, num_heads=2)' in stdout
    assert 'mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]' in stdout


def test_distillation_token_is_dropped_by_its_flag(call, tmp_path):
    source, target = tmp_path / 'deit.pth', tmp_path / 'out.pth'
    positions = torch.rand(1, 6, WIDTH)
    extra = {'dist_token': torch.rand(1, 1, WIDTH), 'head_dist.weight': torch.rand(3, WIDTH)}
    torch.save({'model': _timm_weights(pos_embed=positions, **extra)}, source)
    code, _, stderr = call(TOOL, source, target)
    assert (code, target.exists()) == (1, False)
    assert '--drop-dist-token' in stderr
    code, stdout, _ = call(TOOL, source, target, '--drop-dist-token')
    assert code == 0
    assert 'the features are no longer those of the distilled model' in stdout
    kept = read_state_dict(target)['pos_embed']
    assert torch.equal(kept, positions[:, [0, 2, 3, 4, 5]])
    torch.save(_timm_weights(), source)
    assert 'has no dist_token' in call(TOOL, source, target, '--drop-dist-token')[2]


def test_choice_of_weights_is_printed(call, tmp_path):
    other = {key: value + 1 for key, value in _timm_weights().items()}
    content = {'state_dict': _timm_weights(), 'state_dict_ema': other, 'optimizer': {'state': {}}, 'epoch': 3}
    torch.save(content, tmp_path / 'vit.pth')
    code, stdout, _ = call(TOOL, tmp_path / 'vit.pth', tmp_path / 'out.pth')
    assert code == 0
    assert "used the weights of 'state_dict'; the file also has 'state_dict_ema'\n" in stdout
    _assert_converted(read_state_dict(tmp_path / 'out.pth'))
    torch.save({'model': _timm_weights(), 'optimizer': {'state': {}}}, tmp_path / 'vit.pth')
    assert 'also has' not in call(TOOL, tmp_path / 'vit.pth', '--dry-run')[1]


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_precision_is_kept_and_views_are_small(call, tmp_path, suffix):
    storage = torch.rand(100_000, WIDTH).half()
    source, target = tmp_path / 'vit.pth', tmp_path / f'out{suffix}'
    torch.save({'model': _timm_weights(**{'norm.bias': storage[5]})}, source)
    code, _, stderr = call(TOOL, source, target)
    assert (code, stderr) == (0, '')
    tensor = read_state_dict(target)['ln1.bias']
    assert tensor.dtype == torch.float16
    assert torch.equal(tensor, storage[5])
    assert target.stat().st_size < 60_000


def test_result_is_replaced_only_by_a_complete_one(call, tmp_path, monkeypatch):
    source, target = tmp_path / 'vit.pth', tmp_path / 'out.pth'
    torch.save(_timm_weights(), source)
    target.write_bytes(b'old')

    def full_disk(descriptor):
        raise OSError('No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full_disk)
        code, stdout, stderr = call(TOOL, source, target)
    assert (code, stdout, stderr) == (1, '', 'vit2mmseg: No space left on device\n')
    assert target.read_bytes() == b'old'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out.pth', 'vit.pth']
    assert call(TOOL, source, target)[0] == 0
    _assert_converted(read_checkpoint(target)['state_dict'])


@pytest.mark.parametrize(
    ('weights', 'reason'),
    [
        (dict(_timm_weights(), dist_token=torch.ones(3)), '1 of 33 keys'),
        ({'conv1.weight': torch.ones(1)}, 'conv1.weight'),
        (dict.fromkeys(('patch_embed.projection.weight', 'layers.0.ln1.weight'), ONE), 'nothing to convert'),
        (dict.fromkeys(WHOLE, ONE), 'a complete DPT of MMSegmentation or of this package'),
        (dict(_timm_weights(), **GATED), 'SwiGLU feed-forward'),
        (
            {key: value for key, value in _timm_weights(3).items() if not key.startswith('blocks.1')},
            '12 tensors of the ViT are missing, named as in VisionTransformer: layers.1.ln1.weight',
        ),
        (
            _timm_weights(pos_embed=torch.ones(1, 4, WIDTH)),
            'no entry for the class token (as in DeiT III); use TimmBackbone with a model such as',
        ),
    ],
)
def test_other_weights_are_refused_with_the_reason(call, tmp_path, weights, reason):
    torch.save(weights, tmp_path / 'vit.pth')
    status, printed, error = call(TOOL, tmp_path / 'vit.pth', tmp_path / 'new' / 'out.pth')
    assert (status, printed, error.count('\n')) == (1, '', 1)
    assert 'vit.pth: ' in error
    assert reason in error
    assert [path.name for path in tmp_path.iterdir()] == ['vit.pth']


def test_shared_vit_small_converts_and_loads_strictly(call, tmp_path, vit_small_weights):
    code, stdout, _ = call(TOOL, vit_small_weights, tmp_path / 'vit.pth')
    assert code == 0
    assert '174 keys: 174 mapped, 0 dropped' in stdout
    sizes = {'embed_dims': 384, 'num_layers': 12, 'num_heads': 6}
    report = load_backbone(VisionTransformer(518, 14, layer_scale_init=1e-5, **sizes), tmp_path / 'vit.pth')
    assert report.source == 'MMSegmentation'
    assert len(report.mapped) == 172
    assert set(report.dropped) == {'ln1.weight', 'ln1.bias'}
