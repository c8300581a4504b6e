"""What is saved is complete or not there, holds tensors and plain values, and is read back as it was."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from dpt.checkpoints import dataset_meta, read_checkpoint, read_meta, read_state_dict, save_weights
from dpt.checkpoints.meta import model_config

META = {
    'cfg': 'model = dict()\n',
    'dataset_meta': {'classes': ['sky', 'road'], 'palette': [[1, 2, 3], [4, 5, 6]]},
    'metric': {'mIoU': 47.25},
    'iter': 16000,
}


@pytest.fixture
def tensors():
    return {'a.weight': torch.rand(3, 4).half(), 'a.view': torch.rand(1000, 4).t()[1], 'n': torch.tensor(7)}


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_weights_and_metadata_come_back(tmp_path, tensors, suffix):
    path = tmp_path / 'new' / f'x{suffix}'
    save_weights(tensors, META, path)
    loaded = read_state_dict(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)
    assert loaded['a.weight'].dtype == torch.float16
    assert read_meta(path) == META
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_size < 12_000  # a view does not carry all of its storage along


def test_metadata_of_safetensors_are_text_that_others_can_read(tmp_path, tensors):
    save_weights(tensors, META, tmp_path / 'x.safetensors')
    with safe_open(tmp_path / 'x.safetensors', framework='pt') as file:
        metadata = file.metadata()
    assert metadata['cfg'] == META['cfg']
    assert json.loads(metadata['dataset_meta']) == META['dataset_meta']


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_the_same_content_is_the_same_bytes_in_another_process(tmp_path, suffix):
    code = (
        'import torch, hashlib\nfrom dpt.checkpoints.save import serialise\n'
        "tensors = {'b': torch.arange(6.0).view(2, 3), 'a': torch.ones(3).half(), 'c': torch.tensor(1)}\n"
        "meta = {name: {'of': name} for name in 'zyxwvutsr'}\n"
        f'print(hashlib.sha256(serialise(tensors, meta, {suffix!r})).hexdigest())\n'
    )
    digests = {
        subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    }
    assert len(digests) == 1


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, tensors, suffix, monkeypatch):
    path = tmp_path / f'x{suffix}'
    path.write_bytes(b'old')

    def full_disk(descriptor):
        raise OSError('No space left on device')

    monkeypatch.setattr('os.fsync', full_disk)
    with pytest.raises(OSError, match='No space left'):
        save_weights(tensors, META, path)
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_metadata_are_named(tmp_path, tensors):
    save_weights(tensors, {'dataset_meta': '{"classes": '}, tmp_path / 'x.safetensors')
    with pytest.raises(ValueError, match=r"x\.safetensors: metadata 'dataset_meta' are not the JSON"):
        read_meta(tmp_path / 'x.safetensors')


def test_no_metadata_is_an_empty_dict(tmp_path):
    torch.save({'a': torch.ones(1)}, tmp_path / 'x.pth')
    assert read_meta(tmp_path / 'x.pth') == {}
    assert read_checkpoint(tmp_path / 'x.pth').keys() == {'a'}


@pytest.mark.parametrize(
    'meta',
    [
        {'dataset_meta': {'classes': ('a', 'b'), 'palette': torch.tensor([[0, 0, 0], [9, 9, 9]])}},
        {'dataset_meta': {'classes': ['a', 'b'], 'palette': [(0, 0, 0), (9, 9, 9)]}},
        {'CLASSES': ('a', 'b'), 'PALETTE': [[0, 0, 0], [9, 9, 9]], 'epoch': 1},
    ],
    ids=['mmengine', 'lists', 'MMSegmentation 0.x'],
)
def test_class_names_and_colours_by_whatever_name(meta):
    assert dataset_meta(meta) == {'classes': ('a', 'b'), 'palette': [[0, 0, 0], [9, 9, 9]]}


def test_no_class_names():
    assert dataset_meta({'epoch': 1}) is None
    assert dataset_meta({'dataset_meta': {'palette': [[0, 0, 0]]}}) is None


def test_the_config_is_read_without_being_run(tmp_path):
    made = tmp_path / 'made'
    text = (
        f'import os\nos.mkdir({str(made)!r})\nlr = 0.1\n'
        'model = dict(backbone=dict(norm_taps=True, out_indices=(0, 1)), neck=dict(norm=lr))\n'
    )
    assert model_config({'cfg': text}) == {
        'backbone': {'norm_taps': True, 'out_indices': [0, 1]},
        'neck': {'norm': None},
    }
    assert not made.exists()
    for other in ({}, {'cfg': 'model = ('}, {'cfg': 3}, {'cfg': 'a = 1'}):
        assert model_config(other) == {}
