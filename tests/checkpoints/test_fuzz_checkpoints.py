"""Random key sets and random bytes: a complete mapping or a ValueError that names the key, nothing else.

A few derandomised examples of each; ``DPT_FUZZ_EXAMPLES=2000`` draws that many, anew each time.
"""

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_checkpoints import Holder, backbone_shapes, mmseg_shapes, model_shapes, random_tensors

from dpt.checkpoints import load_backbone, load_model, read_checkpoint

EXAMPLES = int(os.environ.get('DPT_FUZZ_EXAMPLES', '0'))
fuzz = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # they hold nothing that an example changes
)
names = st.text('abcdefghilnorstuv._0123456789', min_size=1, max_size=30)


def change(draw, tensors: dict[str, torch.Tensor]) -> list[str]:
    """Drop, add, rename or reshape some tensors; return the keys concerned."""
    changed = []
    for _ in range(draw(st.integers(0, 3))):
        key = draw(st.sampled_from(sorted(tensors)))
        kind = draw(st.sampled_from(['drop', 'add', 'rename', 'reshape', 'nearly']))
        if kind == 'add':
            key = draw(names)
            tensors.setdefault(key, torch.zeros(2))
        elif kind == 'reshape':
            tensors[key] = torch.zeros(draw(st.lists(st.integers(0, 7), max_size=4)))
        else:
            tensor = tensors.pop(key)
            if kind == 'rename':
                tensors[draw(names)] = tensor
            elif kind == 'nearly':  # a digit or letter of a real name
                place = draw(st.integers(0, len(key) - 1))
                tensors[key[:place] + draw(st.sampled_from('0123456789x.')) + key[place + 1 :]] = tensor
        changed.append(key)
    return changed


@pytest.mark.parametrize('shapes', [model_shapes, mmseg_shapes, backbone_shapes])
@fuzz
@given(data=st.data())
def test_file_is_loaded_in_full_or_refused_by_key(tmp_path, shapes, data):
    tensors = random_tensors(shapes())
    before = dict(tensors)
    changed = change(data.draw, tensors)
    path = tmp_path / 'x.pth'
    torch.save(tensors, path)
    is_backbone = shapes is backbone_shapes
    module = Holder(backbone_shapes() if is_backbone else model_shapes())
    try:
        report = (load_backbone if is_backbone else load_model)(module, path)
    except ValueError as error:
        assert changed or tensors.keys() != before.keys()
        assert all(bool((value == -1).all()) for value in module.state_dict().values())
        keys = (*changed, *(tensors.keys() - before.keys()))
        words = ('.'.join(key.split('.')[-2:]) for key in keys)  # what the names in all sources end with
        if not any(word in str(error) for word in (*words, 'looked for the keys', 'it is empty')):
            raise
        return
    state = module.state_dict()
    assert set(report.mapped) | set(report.dropped) == set(tensors)
    assert all(torch.equal(state[target], tensors[source]) for source, target in report.mapped.items())
    for key in set(state) - set(report.mapped.values()):  # zeros, as documented
        assert 'patch_embed.projection.bias' in key
        assert not bool((state[key] == -1).any())


ORIGINAL = {'a.weight': torch.arange(60.0).reshape(5, 12), 'a.bias': torch.arange(7.0)}


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp('files')
    torch.save({'state_dict': ORIGINAL, 'meta': {'iter': 3}}, folder / 'new.pth')
    torch.save({'state_dict': ORIGINAL}, folder / 'old.pth', _use_new_zipfile_serialization=False)
    save_file(ORIGINAL, folder / 'x.safetensors', metadata={'iter': '3'})
    arrays = {key: value.numpy() for key, value in ORIGINAL.items()}
    np.savez(folder / 'x.npz', **arrays)
    np.savez_compressed(folder / 'small.npz', **arrays)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mutate(draw, content: bytes) -> bytes:
    """Change, cut, insert or repeat some bytes."""
    mutated = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(mutated) - 1, 0)))
        kind = draw(st.sampled_from(['byte', 'number', 'cut', 'insert', 'repeat']))
        if kind == 'byte':
            mutated[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == 'number':  # lengths and offsets
            size = draw(st.sampled_from([2, 4, 8]))
            mutated[place : place + size] = draw(st.binary(min_size=size, max_size=size))
        elif kind == 'cut':
            del mutated[place:]
        elif kind == 'insert':
            mutated[place:place] = draw(st.binary(max_size=20))
        else:
            mutated[place:place] = mutated[: draw(st.integers(0, 200))]
    return bytes(mutated)


@pytest.mark.parametrize('name', ['new.pth', 'old.pth', 'x.safetensors', 'x.npz', 'small.npz'])
@fuzz
@given(data=st.data())
def test_damaged_bytes_are_read_right_or_refused(files, tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(mutate(data.draw, files[name]))
    try:
        content = read_checkpoint(path)
    except ValueError as error:
        if name not in str(error):
            raise
        return
    assert isinstance(content, dict)
    if name.endswith('.npz'):  # with a checksum of each entry: damage is seen
        assert all(torch.equal(content[key], ORIGINAL[key]) for key in content.keys() & ORIGINAL.keys())
