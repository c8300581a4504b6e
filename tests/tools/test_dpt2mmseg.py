"""Conversion to MMSegmentation: the same bits under its keys, or a refusal with the reason."""

import pytest
import torch

from dpt.apis import init_model
from dpt.checkpoints import load_model, read_checkpoint, read_state_dict

TOOL = 'tools/model_converters/dpt2mmseg.py'
META = {'dataset_meta': {'classes': ('a', 'b'), 'palette': [[0, 0, 0], [1, 1, 1]]}}


@pytest.fixture
def run(tool_main, capsys):
    """Run the tool with arguments; return the exit code, stdout and stderr."""
    main = tool_main(TOOL)

    def call(*args):
        capsys.readouterr()
        code = main(*args)
        return code, *capsys.readouterr()

    return call


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
def test_round_trip_is_bit_equal(run, build, tmp_path, patch_bias, final_norm):
    options = dict(backbone__patch_bias=patch_bias, backbone__final_norm=final_norm)
    model = build(**options)
    torch.save({'state_dict': model.state_dict(), 'meta': META}, tmp_path / 'ours.pth')
    code, stdout, stderr = run(tmp_path / 'ours.pth', tmp_path / 'theirs.pth')
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


def test_auxiliary_heads_are_dropped(run, build, tmp_path):
    head = dict(type='FCNHead', in_channels=48, in_index=1, channels=8, num_classes=6)
    model = build(auxiliary_heads=[head])
    torch.save(model.state_dict(), tmp_path / 'ours.pth')
    code, stdout, _ = run(tmp_path / 'ours.pth', tmp_path / 'theirs.pth')
    assert code == 0
    assert 'dropped: auxiliary head, used only in training' in stdout
    assert 'auxiliary_heads.0.conv_seg.weight' in stdout
    assert not any('auxiliary' in key for key in read_state_dict(tmp_path / 'theirs.pth'))


def test_unsupported_models_are_refused_with_the_reason(run, build, tmp_path, repository):
    target = tmp_path / 'theirs.pth'
    plain = build()

    def refused(word, state_dict, text=None):
        torch.save({'state_dict': state_dict, 'meta': {'cfg': text} if text else {}}, tmp_path / 'ours.pth')
        code, stdout, stderr = run(tmp_path / 'ours.pth', target)
        assert (code, stdout, target.exists()) == (1, '', False)
        assert stderr.count('\n') == 1
        assert 'ours.pth: ' in stderr
        assert word in stderr

    refused('no LayerScale', build(backbone__layer_scale_init=1.0).state_dict())
    normed = build(backbone__norm_taps=True)
    refused('normalises only the last tap', normed.state_dict(), normed.cfg.pretty_text)
    enlarged = build(decode_head__upsample_factor=2)
    refused('does not upsample its logits', enlarged.state_dict(), enlarged.cfg.pretty_text)
    refused('hybrid', {**plain.state_dict(), 'backbone.stem.conv.weight': torch.ones(1)})
    refused(
        'no counterpart for neck.extra.weight', {**plain.state_dict(), 'neck.extra.weight': torch.ones(1)}
    )
    refused('not a DPT of this package', {'conv1.weight': torch.ones(1)})


def test_mistakes_are_one_line(run, build, tmp_path):
    torch.save(build().state_dict(), tmp_path / 'ours.pth')
    assert run(tmp_path / 'ours.pth', tmp_path / 'theirs.pth')[0] == 0
    for source, target, word in (
        ('theirs.pth', 'again.pth', 'nothing to convert'),
        ('ours.pth', 'ours.pth', 'must not be the input file'),
        ('ours.pth', 'x.safetensors', 'MMSegmentation reads .pth'),
        ('gone.pth', 'x.pth', 'no such checkpoint'),
    ):
        code, stdout, stderr = run(tmp_path / source, tmp_path / target)
        assert (code, stdout, stderr.count('\n')) == (1, '', 1)
        assert word in stderr


def test_norm_of_every_tap_is_mentioned_without_config(run, build, tmp_path):
    torch.save(build(backbone__norm_taps=True).state_dict(), tmp_path / 'ours.pth')
    assert (
        'MMSegmentation does not support models with norm_taps=True'
        in run(tmp_path / 'ours.pth', tmp_path / 'theirs.pth')[1]
    )
