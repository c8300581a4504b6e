"""Weights and metadata are written completely or not at all, and read back as they were."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from dpt.checkpoints import dataset_meta, read_checkpoint, read_meta, read_state_dict, save_weights
from dpt.checkpoints.meta import config_values

META = {
    'cfg': 'model = dict()\n',
    'dataset_meta': {'classes': ['sky', 'road'], 'palette': [[1, 2, 3], [4, 5, 6]]},
    'metric': {'mIoU': 47.25},
    'iter': 16000,
}
both = pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])


@pytest.fixture
def tensors():
    return {'a.weight': torch.rand(3, 4).half(), 'a.view': torch.rand(1000, 4).t()[1], 'n': torch.tensor(7)}


@both
def test_weights_and_metadata_come_back(tmp_path, tensors, suffix):
    path = tmp_path / 'new' / f'x{suffix}'
    save_weights(tensors, META, path)
    loaded = read_state_dict(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)
    assert loaded['a.weight'].dtype == torch.float16
    assert read_meta(path) == META
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_size < 12_000  # a view is written without the rest of its storage


def test_metadata_of_safetensors_are_plain_text(tmp_path, tensors):
    save_weights(tensors, META, tmp_path / 'x.safetensors')
    with safe_open(tmp_path / 'x.safetensors', framework='pt') as file:
        metadata = file.metadata()
    assert metadata['cfg'] == META['cfg']
    assert json.loads(metadata['dataset_meta']) == META['dataset_meta']


@both
def test_same_content_is_the_same_bytes_in_every_process(tmp_path, suffix):
    code = (
        'import torch, hashlib\nfrom dpt.checkpoints.write import serialise\n'
        "tensors = {'b': torch.arange(6.0).view(2, 3), 'a': torch.ones(3).half(), 'c': torch.tensor(1)}\n"
        "meta = {name: {'of': name} for name in 'zyxwvutsr'}\n"
        f'print(hashlib.sha256(serialise(tensors, meta, {suffix!r})).hexdigest())\n'
    )
    command = [sys.executable, '-c', code]
    digests = {subprocess.run(command, capture_output=True, check=True).stdout for _ in range(3)}
    assert len(digests) == 1


@both
def test_full_disk_leaves_the_old_file_alone(tmp_path, tensors, suffix, monkeypatch):
    path = tmp_path / f'x{suffix}'
    path.write_bytes(b'old')

    def full_disk(descriptor):
        raise OSError('No space left on device')

    monkeypatch.setattr('os.fsync', full_disk)
    with pytest.raises(OSError, match='No space left'):
        save_weights(tensors, META, path)
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_or_absent_metadata(tmp_path, tensors):
    save_weights(tensors, {'dataset_meta': '{"classes": '}, tmp_path / 'x.safetensors')
    with pytest.raises(ValueError, match=r"x\.safetensors: metadata 'dataset_meta' are not valid JSON"):
        read_meta(tmp_path / 'x.safetensors')
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
def test_classes_and_colours_of_every_runner(meta):
    assert dataset_meta(meta) == {'classes': ('a', 'b'), 'palette': [[0, 0, 0], [9, 9, 9]]}


def test_no_class_names():
    assert dataset_meta({'epoch': 1}) is None
    assert dataset_meta({'dataset_meta': {'palette': [[0, 0, 0]]}}) is None


def test_config_text_is_read_as_data():
    text = "a = b = dict(c=[1, (2.5, None)], d=dict({'x.y': {'z': -1}}))\ne = {1, 2}\n"
    value = {'c': [1, (2.5, None)], 'd': {'x.y': {'z': -1}}}
    assert config_values(text) == {'a': value, 'b': value, 'e': {1, 2}}


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ("a = 1\nb = __import__('os').mkdir('made')", "line 2 is not plain data: \"__import__('os')"),
        ('import os', 'line 1 is not plain data'),
        ('a = dict(**b)', 'not plain data'),
        ("a = dict(**{'b': 1})", 'not plain data'),
        ('a.b = 1', 'not plain data'),
        ('a = [x for x in y]', 'not plain data'),
        ('a = (', 'not the text of a config'),
    ],
)
def test_config_text_that_would_run_is_refused(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='not') as caught:
        config_values(text)
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []
