"""Random key sets and random bytes: a complete mapping or a ValueError that names the key, nothing else.

A few derandomised examples of each; ``DPT_FUZZ_EXAMPLES=2000`` draws that many, anew each time.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

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


def tail(key: str) -> str:
    """What the names of a tensor in all sources have in common, more or less: its last two parts."""
    return '.'.join(key.split('.')[-2:])


def change(draw: st.DataObject, tensors: dict[str, torch.Tensor]) -> list[str]:
    """Drop, add, rename or reshape some tensors; return the keys concerned."""
    changed = []
    for _ in range(draw.draw(st.integers(0, 3))):
        key = draw.draw(st.sampled_from(sorted(tensors)))
        kind = draw.draw(st.sampled_from(['drop', 'add', 'rename', 'reshape', 'nearly']))
        if kind == 'add':
            key = draw.draw(names)
            tensors.setdefault(key, torch.zeros(2))
        elif kind == 'reshape':
            tensors[key] = torch.zeros(draw.draw(st.lists(st.integers(0, 7), max_size=4)))
        else:
            tensor = tensors.pop(key)
            if kind == 'rename':
                tensors[draw.draw(names)] = tensor
            elif kind == 'nearly':  # a digit or letter of a real name
                place = draw.draw(st.integers(0, len(key) - 1))
                tensors[key[:place] + draw.draw(st.sampled_from('0123456789x.')) + key[place + 1 :]] = tensor
        changed.append(key)
    return changed


@pytest.mark.parametrize('kind', ['model', 'mmseg', 'backbone'])
@fuzz
@given(data=st.data())
def test_a_file_is_loaded_in_full_or_refused_by_key(tiny, tmp_path: Path, kind: str, data) -> None:
    shapes = {'model': tiny.model_shapes, 'mmseg': tiny.mmseg_shapes, 'backbone': tiny.backbone_shapes}[
        kind
    ]()
    tensors = tiny.random_tensors(shapes)
    before = dict(tensors)
    changed = change(data, tensors)
    path = tmp_path / 'x.pth'
    torch.save(tensors, path)
    module = tiny.Holder(tiny.backbone_shapes() if kind == 'backbone' else tiny.model_shapes())
    load = load_backbone if kind == 'backbone' else load_model
    try:
        report = load(module, path)
    except ValueError as error:
        assert changed or tensors.keys() != before.keys()
        assert all(bool((value == -1).all()) for value in module.state_dict().values())  # as it was
        text = str(error)
        known = [key for key in (*changed, *(tensors.keys() - before.keys())) if tail(key) in text]
        assert known or 'looked for the keys' in text or 'it is empty' in text, text
        return
    state = module.state_dict()
    assert set(report.mapped) | set(report.dropped) == set(tensors)  # nothing of the file is lost silently
    for source, target in report.mapped.items():
        assert torch.equal(state[target], tensors[source])
    unfilled = set(state) - set(report.mapped.values())
    assert all('patch_embed.projection.bias' in key for key in unfilled)  # zeros, as documented
    assert not any(bool((state[key] == -1).any()) for key in unfilled)


def original() -> dict[str, torch.Tensor]:
    return {'a.weight': torch.arange(60.0).reshape(5, 12), 'a.bias': torch.arange(7.0)}


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp('files')
    tensors = original()
    torch.save({'state_dict': tensors, 'meta': {'iter': 3}}, folder / 'new.pth')
    torch.save({'state_dict': tensors}, folder / 'old.pth', _use_new_zipfile_serialization=False)
    save_file(tensors, folder / 'x.safetensors', metadata={'iter': '3'})
    np.savez(folder / 'x.npz', **{key: value.numpy() for key, value in tensors.items()})
    np.savez_compressed(folder / 'small.npz', **{key: value.numpy() for key, value in tensors.items()})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mutate(draw: st.DataObject, content: bytes) -> bytes:
    """Change, cut, insert or repeat some bytes."""
    mutated = bytearray(content)
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, max(len(mutated) - 1, 0)))
        kind = draw.draw(st.sampled_from(['byte', 'number', 'cut', 'insert', 'repeat']))
        if kind == 'byte':
            mutated[place : place + 1] = draw.draw(st.binary(min_size=1, max_size=1))
        elif kind == 'number':  # lengths and offsets
            size = draw.draw(st.sampled_from([2, 4, 8]))
            mutated[place : place + size] = draw.draw(st.integers(0, 2 ** (8 * size) - 1)).to_bytes(
                size, 'little'
            )
        elif kind == 'cut':
            del mutated[place:]
        elif kind == 'insert':
            mutated[place:place] = draw.draw(st.binary(max_size=20))
        else:
            mutated[place:place] = mutated[: draw.draw(st.integers(0, 200))]
    return bytes(mutated)


@pytest.mark.parametrize('name', ['new.pth', 'old.pth', 'x.safetensors', 'x.npz', 'small.npz'])
@fuzz
@given(data=st.data())
def test_damaged_bytes_are_read_right_or_refused(files, tmp_path: Path, name: str, data) -> None:
    path = tmp_path / name
    path.write_bytes(mutate(data, files[name]))
    try:
        content = read_checkpoint(path)
    except ValueError as error:
        if name not in str(error):
            raise
        return
    assert isinstance(content, dict)
    if name in ('x.npz', 'small.npz'):  # with checksums, that of a whole entry: damage is seen
        for key, value in content.items():
            if key in original():
                assert torch.equal(value, original()[key])
