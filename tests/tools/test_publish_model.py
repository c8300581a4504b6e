"""A published file is small, named by its content, and works wherever a checkpoint does."""

import hashlib
import re

import pytest
import torch
from outputs import logged, result_of

from dpt.apis import init_model
from dpt.checkpoints import load_model, read_checkpoint, read_meta, read_state_dict


@pytest.fixture
def publish(call):
    """Publish a file; returns what was printed, and the path of the new file."""

    def run(source, target):
        status, printed, error = call('publish_model', source, target)
        assert (status, error) == (0, '')
        return printed, target.parent / re.search(r'written to .+/(.+)', printed)[1]

    return run


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_weights_and_metadata_are_kept_under_a_new_name(publish, call, best, tmp_path, suffix):
    target = tmp_path / 'new' / f'dpt_tiny{suffix}'
    printed, path = publish(best, target)
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
    assert f'mIoU {meta["metric"]["mIoU"]}' in printed
    assert 'dropped: message_hub, meta.' in printed
    before = path.stat().st_mtime_ns
    message = f'publish_model: {path} exists; published files are never overwritten\n'
    assert call('publish_model', best, target) == (1, '', message)
    assert path.stat().st_mtime_ns == before
    assert list(path.parent.iterdir()) == [path]


def test_optimizer_is_dropped(publish, trained, tmp_path):
    source = trained / 'iter_4.pth'
    printed, path = publish(source, tmp_path / 'x.pth')
    assert 'optimizer' in printed.partition('dropped')[2]
    assert set(read_checkpoint(path)) == {'state_dict', 'meta'}
    assert path.stat().st_size < 0.5 * source.stat().st_size


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
def test_models_with_own_parts_are_published(publish, tmp_path, keys, meta, wrapper):
    weights = {f'{wrapper}{key}': torch.rand(2) for key in keys}
    torch.save({'state_dict': weights, 'meta': meta}, tmp_path / 'own.pth')
    _, path = publish(tmp_path / 'own.pth', tmp_path / 'x.safetensors')
    module = torch.nn.Module()
    for key in keys:
        outer, inner, _ = key.split('.')
        parent = module._modules.setdefault(outer, torch.nn.Module())
        parent.add_module(inner, torch.nn.LayerNorm(2, bias=False))
    load_model(module, path)
    assert all(torch.equal(value, weights[wrapper + key]) for key, value in module.state_dict().items())
    assert read_meta(path).get('cfg') == meta.get('cfg')


@pytest.mark.parametrize('key', ['conv1.weight', 'backbone.stem.weight'])
def test_other_networks_and_backbones_alone_are_refused(call, tmp_path, key):
    torch.save({key: torch.ones(1)}, tmp_path / 'other.pth')
    status, _, error = call('publish_model', tmp_path / 'other.pth', tmp_path / 'x.pth')
    assert (status, error.count('\n')) == (1, 1)
    assert 'other.pth: looked for' in error


def test_a_published_file_is_tested_and_trained_from(publish, run_tool, tiny_config, trained, best, tmp_path):
    _, path = publish(best, tmp_path / 'x.safetensors')
    tested = run_tool('tools/test.py', tiny_config, path, '--work-dir', tmp_path / 'test')
    assert result_of(tested.stdout)['mIoU'] == logged(trained, 'mIoU')[-1]['mIoU']
    # No step to speak of: the weights after it are those of the file.
    options = (f'load_from={path}', 'train_cfg.max_iters=1', 'train_cfg.val_interval=9')
    options += ('optim_wrapper.optimizer.lr=0', 'optim_wrapper.optimizer.weight_decay=0')
    done = run_tool('tools/train.py', tiny_config, '--work-dir', tmp_path / 'a', '--cfg-options', *options)
    assert re.search(rf'loaded (\d+)/\1 tensors from {re.escape(str(path))}', done.stdout + done.stderr)
    after = torch.load(tmp_path / 'a' / 'iter_1.pth', weights_only=True)['state_dict']
    for name, tensor in read_state_dict(path).items():
        if 'running' not in name and 'num_batches' not in name:
            assert torch.equal(tensor, after[name]), name


def test_class_names_come_from_the_file(publish, tiny_config, best, tmp_path):
    content = read_checkpoint(best)
    names, colours = tuple('abcdef'), [[i, i, i] for i in range(6)]
    content['meta']['dataset_meta'] = dict(classes=names, palette=colours)
    torch.save(content, tmp_path / 'renamed.pth')
    _, path = publish(tmp_path / 'renamed.pth', tmp_path / 'x.safetensors')
    model = init_model(tiny_config, path, device='cpu')
    assert model.dataset_meta == dict(classes=names, palette=colours)
