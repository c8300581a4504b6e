"""What training loops and wrappers put around the weights is taken off, and said."""

import logging
import os
import pickle

import pytest
import torch
from outcomes import assert_holds, refused
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dpt.checkpoints import load_backbone, load_model, read_checkpoint, read_state_dict


def before(prefix, tensors):
    return {f'{prefix}{key}': value for key, value in tensors.items()}


def averaged(prefix, tensors):
    return {f'{prefix}n_averaged': torch.tensor(3), **before(f'{prefix}module.', tensors)}


WRAPPED = {
    'compile': (lambda tensors: before('_orig_mod.', tensors), '_orig_mod.'),
    'parallel': (lambda tensors: before('module.', tensors), 'module.'),
    'parallel in compile': (lambda tensors: before('_orig_mod.module.', tensors), '_orig_mod., module.'),
    'compile in parallel': (lambda tensors: before('module._orig_mod.', tensors), 'module., _orig_mod.'),
    'lightning': (lambda tensors: {'state_dict': before('model.', tensors), 'epoch': 1}, 'model.'),
    'compile in lightning': (
        lambda tensors: {'state_dict': before('model._orig_mod.', tensors)},
        'model., _orig_mod.',
    ),
    'loop': (
        lambda tensors: {'model_state_dict': tensors, 'optimizer_state_dict': {}, 'epoch': 1},
        'model_state_dict',
    ),
    'parallel loop': (
        lambda tensors: {'model_state_dict': before('module.', tensors)},
        'model_state_dict, module.',
    ),
    'averaged': (lambda tensors: averaged('', tensors), 'n_averaged, module.'),
    'averaged compile': (
        lambda tensors: averaged('_orig_mod.', tensors),
        '_orig_mod., n_averaged, module.',
    ),
    'averaged parallel': (
        lambda tensors: averaged('', before('module.', tensors)),
        'n_averaged, module., module.',
    ),
    'model': (lambda tensors: {'model': tensors}, 'model'),
    'teacher': (lambda tensors: {'teacher': tensors, 'student': {}}, 'teacher'),
}


@pytest.mark.parametrize('name', WRAPPED)
@pytest.mark.parametrize('names', ['model_shapes', 'mmseg_shapes'])
def test_wrapped_weights_load_and_the_log_says_so(tiny, tmp_path, caplog, names, name):
    wrap, unwrapped = WRAPPED[name]
    tensors, path = tiny.random_tensors(getattr(tiny, names)()), tmp_path / 'x.pth'
    torch.save(wrap(tensors), path)
    module = tiny.Holder(tiny.model_shapes())
    with caplog.at_level(logging.INFO, 'test_load'):
        report = load_model(module, path, logger=logging.getLogger('test_load'))
    assert_holds(module, {report.mapped[key]: value for key, value in tensors.items()})
    (record,) = caplog.records
    assert record.getMessage().endswith(f' keys; unwrapped: {unwrapped})')


def test_real_wrappers_of_torch_are_taken_off(tmp_path):
    inner = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for wrapped in (torch.compile(inner), AveragedModel(inner), AveragedModel(nn.DataParallel(inner))):
        torch.save(wrapped.state_dict(), tmp_path / 'x.pth')
        found = read_state_dict(tmp_path / 'x.pth')
        assert found.keys() == inner.state_dict().keys()
        assert all(torch.equal(found[key], value) for key, value in inner.state_dict().items())


@pytest.mark.parametrize('prefix', ['model.', '_orig_mod.', 'module.'])
def test_a_prefix_on_some_keys_is_a_name(tmp_path, prefix):
    weights = {f'{prefix}a': torch.rand(2), 'b': torch.rand(2)}
    torch.save(weights, tmp_path / 'x.pth')
    assert read_state_dict(tmp_path / 'x.pth').keys() == weights.keys()


def test_a_count_beside_other_names_is_a_tensor(tmp_path):
    weights = {'n_averaged': torch.tensor(3), 'b': torch.rand(2)}
    torch.save(weights, tmp_path / 'x.pth')
    assert read_state_dict(tmp_path / 'x.pth').keys() == weights.keys()


@pytest.mark.parametrize('prefix', ['model.', 'module.'])
def test_a_part_named_like_a_wrapper_stays(tiny, save, prefix):
    path, tensors = save(before(prefix, {'a.weight': (2, 3), 'a.bias': (2,)}))
    for load in (load_model, load_backbone):
        module = tiny.Holder({key: tuple(value.shape) for key, value in tensors.items()})
        load(module, path)
        assert_holds(module, tensors)


@pytest.mark.parametrize('suffix', ['.bin', '.ckpt', '.pth.tar', '.PTH.TAR', '.pt'])
@pytest.mark.parametrize('zipped', [True, False])
def test_files_of_torch_under_other_names_load(tiny, tmp_path, suffix, zipped):
    tensors, path = tiny.random_tensors(tiny.model_shapes()), tmp_path / f'x{suffix}'
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    module = tiny.Holder(tiny.model_shapes())
    load_model(module, path)
    assert_holds(module, tensors)


class Payload:
    """Unpickled, it makes the folder at ``path``."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('suffix', ['.bin', '.ckpt', '.pth.tar'])
def test_nothing_is_run_under_other_names(tiny, tmp_path, suffix):
    path, made = tmp_path / f'x{suffix}', tmp_path / 'made'
    torch.save({'state_dict': {'a': torch.ones(1)}, 'hook': Payload(made)}, path)
    refused(load_model, tiny.Holder(tiny.model_shapes()), path, 'refused, because it asks for', '.mkdir')
    path.write_bytes(pickle.dumps(Payload(made)))
    with pytest.raises(ValueError, match=path.name):
        read_checkpoint(path)
    assert not made.exists()
