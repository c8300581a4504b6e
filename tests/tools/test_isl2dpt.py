"""The converter of the original DPT's files, and what it refuses. Its numbers are in tests/models."""

import re

import pytest
import torch

from dpt.checkpoints import read_meta, read_state_dict
from dpt.checkpoints.formats.isl import BASE, HYBRID, LARGE, LAYOUTS

TOOL = 'model_converters/isl2dpt'
CLASSIFIER = ('scratch.output_conv.4.weight', 'auxlayer.4.weight')


def original(layout, classes=150, **extra) -> dict[str, torch.Tensor]:
    """Tensors under the layout's keys, each with a value of its own."""
    tensors = {key: torch.full((2,), float(i)) for i, key in enumerate(layout.keys())}
    tensors.update({key: torch.zeros(classes, 2, 1, 1) for key in CLASSIFIER})
    return {**tensors, **extra}


@pytest.mark.parametrize('layout', LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_every_key_is_mapped_or_knowingly_dropped(call, tmp_path, layout, suffix) -> None:
    source = original(layout)
    content = {'optimizer': {'state': {}}, 'model': source} if suffix == '.pth' else source
    torch.save(content, tmp_path / 'original.pt')
    target = tmp_path / 'new' / f'model{suffix}'
    code, stdout, stderr = call(TOOL, tmp_path / 'original.pt', target)
    assert (code, stderr) == (0, '')
    assert f'{len(source)} keys: {len(source) - 16} mapped, 16 dropped' in stdout
    assert f'python tools/test.py {layout.config}' in stdout
    assert ("'model.backbone.out_indices=(2,5,8,11)'" in stdout) == (layout is BASE)
    assert read_meta(target)['source'] == 'original.pt'
    result = read_state_dict(target)
    assert len(result) == len(source) - 16
    for ours, theirs in (
        ('backbone.layers.11.ffn.layers.1.bias', 'pretrained.model.blocks.11.mlp.fc2.bias'),
        ('neck.reassemble_blocks.readout_projects.2.0.bias', 'pretrained.act_postprocess3.0.project.0.bias'),
        ('neck.convs.0.conv.weight', 'scratch.layer1_rn.weight'),
        ('neck.fusion_blocks.3.res_conv_unit2.conv1.bn.bias', 'scratch.refinenet1.resConfUnit2.bn1.bias'),
        ('decode_head.project.bn.running_mean', 'scratch.output_conv.1.running_mean'),
        ('auxiliary_heads.0.conv_seg.bias', 'auxlayer.4.bias'),
    ):
        assert torch.equal(result[ours], source[theirs]), ours


def test_table_gives_the_reasons_of_dropped_keys(call, tmp_path) -> None:
    torch.save(original(HYBRID, classes=7), tmp_path / 'original.pt')
    status, printed, _ = call(TOOL, tmp_path / 'original.pt', '--dry-run')
    assert status == 0
    for key, reason in (
        ('pretrained.model.norm.weight', 'does not use'),
        ('pretrained.model.head.weight', 'classifier of the pretraining task'),
        ('scratch.refinenet4.resConfUnit1.conv1.weight', 'no lateral'),
    ):
        assert re.search(rf'{re.escape(key)} .*dropped.*{reason}', printed), key
    assert 'heads of 7 classes' in printed
    assert 'nothing was written' in printed
    assert [path.name for path in tmp_path.iterdir()] == ['original.pt']


def depth() -> dict[str, torch.Tensor]:
    """The keys of the original's depth models: no batch norm, biases, another head."""
    heads = ('auxlayer', 'scratch.output_conv')
    keys = [key for key in original(LARGE) if '.bn' not in key and not key.startswith(heads)]
    keys += [key.replace('weight', 'bias') for key in keys if 'resConfUnit' in key]
    keys += [f'scratch.output_conv.{i}.{name}' for i in (0, 2, 4) for name in ('weight', 'bias')]
    return {key: torch.zeros(1) for key in keys}


def without(layout, part: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in original(layout).items() if part not in key}


@pytest.mark.parametrize(
    ('tensors', 'words'),
    [
        (depth(), 'a depth model, not a segmentation model'),
        (original(BASE, **{'pretrained.model.dist_token': torch.zeros(1)}), 'distillation token'),
        (without(LARGE, '0.project.0'), "readout is either 'ignore' or 'add'"),
        (without(LARGE, 'blocks.17.'), 'closest is vitl16_384'),
        (without(HYBRID, 'stages.2.blocks.8.norm3.bias'), 'stages.2.blocks.8.norm3.bias'),
        (original(BASE, **{'scratch.extra': torch.zeros(1)}), 'Unexpected: scratch.extra'),
        ({'blocks.0.norm1.weight': torch.zeros(1)}, 'begin with pretrained. or scratch.'),
    ],
)
def test_other_files_are_refused_with_the_reason(call, tmp_path, tensors, words: str) -> None:
    torch.save(tensors, tmp_path / 'file.pt')
    code, stdout, stderr = call(TOOL, tmp_path / 'file.pt', tmp_path / 'out.pth')
    assert (code, stdout) == (1, '')
    assert words in stderr
    assert stderr.startswith(f'isl2dpt: {tmp_path / "file.pt"}: ')
    assert stderr.count('\n') == 1
    assert not (tmp_path / 'out.pth').exists()
