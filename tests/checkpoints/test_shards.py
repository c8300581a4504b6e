"""Weights in several files of safetensors, told by their index."""

import json

import pytest
import torch
from outcomes import assert_holds, refused
from safetensors.torch import save_file

from dpt.checkpoints import checkpoint_hash, load_model, read_checkpoint

NAMES = ('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')


@pytest.fixture
def shards(tiny, tmp_path):
    """A model in two shards: (folder, index, tensors)."""
    tensors = tiny.random_tensors(tiny.model_shapes())
    keys = list(tensors)
    parts = dict(zip(NAMES, (keys[::2], keys[1::2]), strict=True))
    for name, part in parts.items():
        save_file({key: tensors[key] for key in part}, tmp_path / name, metadata={'format': 'pt'})
    write_index(tmp_path, {key: name for name, part in parts.items() for key in part})
    return tmp_path, tmp_path / 'model.safetensors.index.json', tensors


def write_index(folder, weight_map):
    content = {'metadata': {'total_size': 1}, 'weight_map': weight_map}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(content))


def change_index(index, **weights):
    write_index(index.parent, json.loads(index.read_text())['weight_map'] | weights)


@pytest.mark.parametrize('given', ['folder', 'index'])
def test_sharded_weights_load(tiny, shards, given):
    folder, index, tensors = shards
    module = tiny.Holder(tiny.model_shapes())
    load_model(module, folder if given == 'folder' else index)
    assert_holds(module, tensors)
    assert read_checkpoint(index)['meta'] == {'format': 'pt'}


def test_a_missing_shard_is_named_in_one_line(tiny, shards):
    folder, index, _ = shards
    (folder / NAMES[1]).unlink()
    with pytest.raises(FileNotFoundError, match=f'its shard {NAMES[1]} is missing') as caught:
        load_model(tiny.Holder(tiny.model_shapes()), folder)
    assert str(index) in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'name', ['../x.safetensors', '/tmp/x.safetensors', 'a\\x.safetensors', 'x.pth', 'x\0.safetensors', '', 3]
)
def test_shards_elsewhere_or_of_another_kind_are_refused(tiny, shards, name):
    folder, index, tensors = shards
    save_file(tensors, folder.parent / 'x.safetensors')
    change_index(index, **{'backbone.pos_embed': name})
    refused(load_model, tiny.Holder(tiny.model_shapes()), index, 'backbone.pos_embed is in', 'same folder')


def test_an_index_of_other_shards_is_refused(tiny, shards):
    folder, index, _ = shards
    change_index(index, extra=NAMES[0])
    refused(load_model, tiny.Holder(tiny.model_shapes()), index, f'{NAMES[0]} lacks extra')
    write_index(folder, {'backbone.cls_token': NAMES[0]})
    refused(load_model, tiny.Holder(tiny.model_shapes()), index, f'{NAMES[0]} holds, against the index')


@pytest.mark.parametrize(
    ('text', 'words'), [('<html>', 'no JSON'), ('[' * 100_000, 'no JSON'), ('{}', 'no weight_map')]
)
def test_an_index_that_is_none_is_refused(tiny, shards, text, words):
    _, index, _ = shards
    index.write_text(text)
    message = refused(load_model, tiny.Holder(tiny.model_shapes()), index, words)
    assert '\n' not in message


def test_a_folder_without_one_index_is_refused(tiny, shards):
    folder, index, _ = shards
    (folder / 'other.safetensors.index.json').write_bytes(index.read_bytes())
    module = tiny.Holder(tiny.model_shapes())
    refused(load_model, module, folder, 'other.safetensors.index.json', index.name)
    (folder / 'empty').mkdir()
    refused(load_model, module, folder / 'empty', 'here is none')


def test_an_index_on_the_web_is_refused(tiny):
    address = 'https://localhost/model.safetensors.index.json'
    refused(load_model, tiny.Holder(tiny.model_shapes()), address, 'not read from the web')


def test_the_hash_covers_all_shards(shards):
    folder, index, tensors = shards
    before = checkpoint_hash(folder)
    assert before == checkpoint_hash(index)
    keys = list(tensors)[1::2]
    save_file({key: torch.zeros_like(tensors[key]) for key in keys}, folder / NAMES[1])
    assert checkpoint_hash(folder) != before
