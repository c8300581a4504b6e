"""A published file is small, named by its content, and works wherever a checkpoint does."""

import hashlib
import re

import pytest
import torch

from dpt.apis import init_model
from dpt.checkpoints import load_model, read_checkpoint, read_meta, read_state_dict


@pytest.fixture(scope='module')
def best(trained):
    return next(trained.glob('best_mIoU_iter_*.pth'))


@pytest.fixture
def run(tool_main, capsys):
    """Run the tool in this process; return the exit code, stdout and stderr."""
    main = tool_main('tools/publish_model.py')

    def call(*args):
        capsys.readouterr()
        code = main(*args)
        return code, *capsys.readouterr()

    return call


def module_of(keys):
    """A module with parameters of size 2 under names such as ``backbone.stem.weight``."""
    module = torch.nn.Module()
    for key in keys:
        outer, inner, _ = key.split('.')
        parent = module._modules.setdefault(outer, torch.nn.Module())
        parent.add_module(inner, torch.nn.LayerNorm(2, bias=False))
    return module


def publish(run_tool, source, target, status=0):
    result = run_tool('tools/publish_model.py', source, target, status=status)
    if status:
        return result.stderr
    written = re.search(r'written to (.+)', result.stdout)[1]
    return result.stdout, target.parent / written.rpartition('/')[2]


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_weights_and_their_metadata_are_kept(run_tool, trained, best, tmp_path, suffix):
    stdout, path = publish(run_tool, best, tmp_path / 'new' / f'dpt_tiny{suffix}')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'dpt_tiny-{digest[:8]}{suffix}'
    assert list(path.parent.iterdir()) == [path]
    source, tensors = read_checkpoint(best), read_state_dict(path)
    assert tensors.keys() == source['state_dict'].keys()
    assert all(torch.equal(tensors[key], value) for key, value in source['state_dict'].items())
    meta = read_meta(path)
    assert meta['dataset_meta']['classes'][0] == 'sky'
    assert len(meta['dataset_meta']['palette']) == len(meta['dataset_meta']['classes']) == 6
    assert meta['metric']['mIoU'] == source['meta']['metric']['mIoU']
    assert meta['cfg'] == source['meta']['cfg']
    assert set(meta) == {'dpt_version', 'dataset_meta', 'metric', 'cfg', 'iter'}
    assert f'mIoU {meta["metric"]["mIoU"]}' in stdout
    assert 'dropped: message_hub, meta.' in stdout


def test_optimizer_is_dropped(run_tool, trained, tmp_path):
    source = trained / 'iter_4.pth'
    stdout, path = publish(run_tool, source, tmp_path / 'x.pth')
    assert 'optimizer' in stdout.partition('dropped')[2]
    assert set(read_checkpoint(path)) == {'state_dict', 'meta'}
    assert path.stat().st_size < 0.5 * source.stat().st_size


def test_nothing_is_overwritten(run_tool, best, tmp_path):
    _, path = publish(run_tool, best, tmp_path / 'x.safetensors')
    before = path.stat().st_mtime_ns
    stderr = publish(run_tool, best, tmp_path / 'x.safetensors', status=1)
    assert stderr == f'publish_model: {path} exists; published files are never overwritten\n'
    assert path.stat().st_mtime_ns == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ('keys', 'meta'),
    [
        (('backbone.stem.weight', 'decode_head.classify.weight'), {}),  # the user's backbone and head
        (('net.stem.weight', 'net.classify.weight'), {'cfg': "model = dict(type='Mine')\n"}),
        (('model.stem.weight', 'model.classify.weight'), {'cfg': "model = dict(type='Mine')\n"}),
    ],
    ids=['own parts', 'own model', 'named like a wrapper'],
)
@pytest.mark.parametrize('wrapper', ['', 'module.'])
def test_models_with_own_parts_are_published(run, tmp_path, keys, meta, wrapper):
    weights = {f'{wrapper}{key}': torch.rand(2) for key in keys}
    torch.save({'state_dict': weights, 'meta': meta}, tmp_path / 'own.pth')
    assert run(tmp_path / 'own.pth', tmp_path / 'out' / 'x.safetensors')[0] == 0
    (path,) = (tmp_path / 'out').iterdir()
    module = module_of(keys)
    load_model(module, path)
    assert all(torch.equal(value, weights[wrapper + key]) for key, value in module.state_dict().items())
    assert read_meta(path).get('cfg') == meta.get('cfg')


@pytest.mark.parametrize(
    ('key', 'words'),
    [('conv1.weight', 'looked for'), ('backbone.stem.weight', 'looked for')],
    ids=['another network', 'backbone alone'],
)
def test_other_files_are_refused(run, tmp_path, key, words):
    torch.save({key: torch.ones(1)}, tmp_path / 'other.pth')
    code, _, stderr = run(tmp_path / 'other.pth', tmp_path / 'x.pth')
    assert (code, stderr.count('\n')) == (1, 1)
    assert f'other.pth: {words}' in stderr


def test_published_file_has_the_same_result(run_tool, tiny_config, best, tmp_path):
    _, path = publish(run_tool, best, tmp_path / 'x.safetensors')
    results = [
        run_tool('tools/test.py', tiny_config, one, '--work-dir', tmp_path / 'test').stdout.splitlines()[-1]
        for one in (best, path)
    ]
    assert results[0].startswith('RESULT ')
    assert results[0] == results[1]


def test_training_starts_from_the_published_file(run_tool, tiny_config, best, tmp_path):
    _, path = publish(run_tool, best, tmp_path / 'x.safetensors')
    options = (f'load_from={path}', 'train_cfg.max_iters=1', 'optim_wrapper.optimizer.lr=0.0')
    work_dir = tmp_path / 'finetune'
    done = run_tool('tools/train.py', tiny_config, '--work-dir', work_dir, '--cfg-options', *options)
    assert re.search(rf'loaded (\d+)/\1 tensors from {re.escape(str(path))}', done.stdout + done.stderr)


def test_class_names_come_from_the_file(run_tool, tiny_config, best, tmp_path):
    content = read_checkpoint(best)
    names, colours = tuple('abcdef'), [[i, i, i] for i in range(6)]
    content['meta']['dataset_meta'] = dict(classes=names, palette=colours)
    torch.save(content, tmp_path / 'renamed.pth')
    _, path = publish(run_tool, tmp_path / 'renamed.pth', tmp_path / 'x.safetensors')
    model = init_model(tiny_config, path, device='cpu')
    assert model.dataset_meta == dict(classes=names, palette=colours)
