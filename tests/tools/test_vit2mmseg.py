"""The converter as a user runs it, and what it leaves behind when it refuses."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from dpt.checkpoints import checkpoint_hash, read_checkpoint, read_state_dict

TOOL = 'tools/model_converters/vit2mmseg.py'


@pytest.fixture(scope='module')
def tool(repository):
    """The tool as a module, to run many cases in one process."""
    spec = importlib.util.spec_from_file_location('vit2mmseg', repository / TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, monkeypatch, capsys):
    """Run ``main`` with arguments; return the exit code, stdout and stderr."""

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['vit2mmseg.py', *map(str, args)])
        code = tool.main()
        return code, *capsys.readouterr()

    return call


def _shell(repository, *args):
    environment = {**os.environ, 'PYTHONPATH': str(repository), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(repository / TOOL), *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _timm_weights(**extra) -> dict[str, torch.Tensor]:
    names = (
        'cls_token',
        'pos_embed',
        'patch_embed.proj.weight',
        'blocks.0.norm1.weight',
        'blocks.1.norm1.weight',
    )
    names += ('blocks.0.attn.qkv.bias', 'norm.weight', 'head.weight')
    return {**{name: torch.full((3,), float(i)) for i, name in enumerate(names)}, **extra}


OURS = {
    'cls_token': 0,
    'pos_embed': 1,
    'patch_embed.projection.weight': 2,
    'layers.0.ln1.weight': 3,
    'layers.1.ln1.weight': 4,
    'layers.0.attn.attn.in_proj_bias': 5,
    'ln1.weight': 6,
}


def _assert_converted(tensors):
    assert {key: value[0].item() for key, value in tensors.items()} == OURS


def test_as_a_user_runs_it(repository, tmp_path):
    source, target = tmp_path / 'vit.safetensors', tmp_path / 'new' / 'folder' / 'out.pth'
    save_file(_timm_weights(), source)
    done = _shell(repository, source, target)
    assert (done.returncode, done.stderr) == (0, '')
    assert '   2 x blocks.*.norm1.weight   -> layers.*.ln1.weight' in done.stdout
    assert 'head.weight             -> dropped: classifier of the pretraining task' in done.stdout
    assert '8 keys: 7 mapped, 1 dropped' in done.stdout
    content = read_checkpoint(target)
    _assert_converted(content['state_dict'])
    assert content['meta'] == {
        'converter': 'vit2mmseg',
        'source': 'vit.safetensors',
        'source_sha256': checkpoint_hash(source),
    }
    assert list(target.parent.iterdir()) == [target]


def test_a_refusal_as_a_user_sees_it(repository, tmp_path):
    source, target = tmp_path / 'vit.pth', tmp_path / 'new' / 'out.pth'
    torch.save(_timm_weights(dist_token=torch.ones(3)), source)
    done = _shell(repository, source, target)
    assert done.returncode == 1
    assert done.stdout == ''
    assert done.stderr.count('\n') == 1
    assert 'vit.pth: 1 of 9 keys' in done.stderr
    assert 'dist_token' in done.stderr
    assert not target.parent.exists()


def test_help_has_an_example(run, capsys):
    with pytest.raises(SystemExit) as caught:
        run('--help')
    assert caught.value.code == 0
    assert f'python {TOOL} ' in capsys.readouterr().out


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_precision_is_kept_and_views_lose_the_rest_of_their_storage(run, tmp_path, suffix):
    storage = torch.rand(100_000, 3).half()
    source, target = tmp_path / 'vit.pth', tmp_path / f'out{suffix}'
    torch.save({'model': _timm_weights(**{'norm.bias': storage[5], 'cls_token': storage[6]})}, source)
    code, _, stderr = run(source, target)
    assert (code, stderr) == (0, '')
    tensor = read_state_dict(target)['ln1.bias']
    assert tensor.dtype == torch.float16
    assert torch.equal(tensor, storage[5])
    assert target.stat().st_size < 20_000


def test_an_existing_result_is_replaced_only_by_a_complete_one(run, tool, tmp_path, monkeypatch):
    source, target = tmp_path / 'vit.pth', tmp_path / 'out.pth'
    torch.save(_timm_weights(), source)
    target.write_bytes(b'old')

    def full_disk(content, file):
        file.write(b'half')
        raise OSError('No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(tool.torch, 'save', full_disk)
        code, stdout, stderr = run(source, target)
    assert (code, stdout, stderr) == (1, '', 'vit2mmseg: No space left on device\n')
    assert target.read_bytes() == b'old'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out.pth', 'vit.pth']
    assert run(source, target)[0] == 0
    _assert_converted(read_checkpoint(target)['state_dict'])


def test_mistakes_are_one_line_and_write_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(_timm_weights(), 'vit.pth')
    torch.save({'conv1.weight': torch.ones(1)}, 'resnet.pth')
    torch.save(
        {'patch_embed.projection.weight': torch.ones(1), 'layers.0.ln1.weight': torch.ones(1)}, 'done.pth'
    )
    os.symlink('vit.pth', 'link.pth')
    os.mkdir('folder.pth')
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for source, target, word in (
        ('vit.pth', 'vit.pth', 'other than the source'),
        ('vit.pth', tmp_path / 'link.pth', 'other than the source'),
        ('vit.pth', 'folder.pth', 'file of its own'),
        ('vit.pth', 'out.bin', '.safetensors'),
        ('vit.pth', 'resnet.pth/out.pth', 'resnet.pth'),
        ('gone.pth', 'out.pth', 'no such checkpoint'),
        ('resnet.pth', 'out.pth', 'conv1.weight'),
        ('done.pth', 'out.pth', 'nothing to convert'),
    ):
        code, stdout, stderr = run(source, target)
        assert (code, stdout) == (1, ''), (source, target)
        assert stderr.count('\n') == 1
        assert word in stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_shared_vit_small_converts_and_loads_strictly(run, tmp_path, vit_small_weights):
    from dpt.checkpoints import load_backbone
    from dpt.models.backbones.vit import VisionTransformer

    code, stdout, _ = run(vit_small_weights, tmp_path / 'vit.pth')
    assert code == 0
    assert '174 keys: 174 mapped, 0 dropped' in stdout
    sizes = {'embed_dims': 384, 'num_layers': 12, 'num_heads': 6}
    report = load_backbone(VisionTransformer(518, 14, layer_scale_init=1e-5, **sizes), tmp_path / 'vit.pth')
    assert report.source == 'MMSegmentation'
    assert len(report.mapped) == 172
    assert set(report.dropped) == {'ln1.weight', 'ln1.bias'}
