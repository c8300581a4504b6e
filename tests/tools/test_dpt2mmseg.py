"""Conversion to MMSegmentation: the same bits under its keys, or a refusal with the reason."""

import pytest
import torch

from dpt.apis import init_model
from dpt.checkpoints import load_model, read_checkpoint, read_state_dict

TOOL = 'model_converters/dpt2mmseg'
META = {'dataset_meta': {'classes': ('a', 'b'), 'palette': [[0, 0, 0], [1, 1, 1]]}}


@pytest.fixture
def build(repository):
    """Build a small DPT with random weights, statistics included; options are those of the model."""

    def make(**options):
        options = {
            'model.backbone.embed_dims': 16,
            'model.neck.in_channels': 16,
            **{f'model.{key.replace("__", ".")}': value for key, value in options.items()},
        }
        model = init_model(repository / 'configs' / 'quickstart.py', device='cpu', cfg_options=options)
        generator = torch.Generator().manual_seed(len(options))
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
        return model

    return make


@pytest.mark.parametrize('patch_bias', [True, False])
@pytest.mark.parametrize('final_norm', [True, False])
def test_round_trip_is_bit_equal(call, build, tmp_path, patch_bias, final_norm):
    options = dict(backbone__patch_bias=patch_bias, backbone__final_norm=final_norm)
    model = build(**options)
    torch.save({'state_dict': model.state_dict(), 'meta': META}, tmp_path / 'ours.pth')
    code, stdout, stderr = call(TOOL, tmp_path / 'ours.pth', tmp_path / 'theirs.pth')
    assert (code, stderr) == (0, '')
    assert ('backbone.patch_bias=True' in stdout) == patch_bias
    assert ('backbone.final_norm=True' in stdout) == final_norm
    theirs = read_state_dict(tmp_path / 'theirs.pth')
    assert list(theirs) == [
        f'decode_head.{key.removeprefix("neck.")}' if key.startswith('neck.') else key
        for key in model.state_dict()
    ]
    assert read_checkpoint(tmp_path / 'theirs.pth')['meta']['dataset_meta'] == META['dataset_meta']
    other = build(backbone__drop_rate=0.0, **options)
    assert not torch.equal(other.backbone.pos_embed, model.backbone.pos_embed)
    load_model(other, tmp_path / 'theirs.pth')
    for key, tensor in other.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key


def test_auxiliary_heads_are_dropped(call, build, tmp_path):
    head = dict(type='FCNHead', in_channels=48, in_index=1, channels=8, num_classes=6)
    model = build(auxiliary_heads=[head])
    torch.save(model.state_dict(), tmp_path / 'ours.pth')
    code, stdout, _ = call(TOOL, tmp_path / 'ours.pth', tmp_path / 'theirs.pth')
    assert code == 0
    assert 'dropped: auxiliary head, used only in training' in stdout
    assert 'auxiliary_heads.0.conv_seg.weight' in stdout
    assert not any('auxiliary' in key for key in read_state_dict(tmp_path / 'theirs.pth'))


def test_unsupported_models_are_refused_with_the_reason(call, build, tmp_path):
    plain, normed = build().state_dict(), build(backbone__norm_taps=True)
    enlarged = build(decode_head__upsample_factor=2)
    extra = torch.ones(1)
    for state_dict, config, reason in (
        (build(backbone__layer_scale_init=1.0).state_dict(), None, 'no LayerScale'),
        (normed.state_dict(), normed.cfg.pretty_text, 'normalises only the last tap'),
        (enlarged.state_dict(), enlarged.cfg.pretty_text, 'does not upsample its logits'),
        ({**plain, 'backbone.stem.conv.weight': extra}, None, 'hybrid'),
        ({**plain, 'neck.extra.weight': extra}, None, 'no counterpart for neck.extra.weight'),
        ({'conv1.weight': extra}, None, 'not a DPT of this package'),
    ):
        meta = {'cfg': config} if config else {}
        torch.save({'state_dict': state_dict, 'meta': meta}, tmp_path / 'ours.pth')
        status, printed, error = call(TOOL, tmp_path / 'ours.pth', tmp_path / 'theirs.pth')
        assert (status, printed, error.count('\n')) == (1, '', 1)
        assert 'ours.pth: ' in error
        assert reason in error
        assert not (tmp_path / 'theirs.pth').exists()
    torch.save(normed.state_dict(), tmp_path / 'ours.pth')  # without a config, the setting is unknown
    _, printed, _ = call(TOOL, tmp_path / 'ours.pth', tmp_path / 'theirs.pth')
    assert 'MMSegmentation does not support models with norm_taps=True' in printed
    status, _, error = call(TOOL, tmp_path / 'theirs.pth', tmp_path / 'again.pth')
    assert status == 1
    assert 'nothing to convert' in error
