"""Files of models made of a user's own parts, in the wrappers of common training loops."""

from pathlib import Path

import pytest
import torch
from torch import nn

from dpt.checkpoints import load_backbone, load_model


class OwnModel(nn.Module):
    """A model of which no key is known."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3)
        self.classify = nn.Conv2d(4, 2, 1)


def loaded(path: Path) -> OwnModel:
    model = OwnModel()
    load_model(model, path)
    return model


def prefixed(prefix: str, tensors: dict) -> dict:
    return {prefix + key: tensor for key, tensor in tensors.items()}


FORMS = {
    'bare.pth': lambda x: x,
    'pytorch_model.bin': lambda x: x,
    'compiled.pth': lambda x: prefixed('_orig_mod.', x),
    'compiled_in_parallel.pth': lambda x: prefixed('module._orig_mod.', x),
    'lightning.ckpt': lambda x: dict(state_dict=prefixed('model.', x), epoch=1),
    'tutorial.pth.tar': lambda x: dict(model_state_dict=x, optimizer_state_dict={}, epoch=1),
    'averaged.pth': lambda x: dict(n_averaged=torch.tensor(3), **prefixed('module.', x)),
}


@pytest.mark.parametrize('name', FORMS)
def test_a_file_of_the_model_s_own_keys_loads(name: str, tmp_path: Path) -> None:
    saved = OwnModel()
    torch.save(FORMS[name](saved.state_dict()), tmp_path / name)
    model = loaded(tmp_path / name)
    assert all(
        torch.equal(one, other) for one, other in zip(model.parameters(), saved.parameters(), strict=True)
    )


def test_a_backbone_of_its_own_keys_loads(tmp_path: Path) -> None:
    saved, backbone = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    torch.save(saved.state_dict(), tmp_path / 'a.pth')
    load_backbone(backbone, tmp_path / 'a.pth')
    assert torch.equal(backbone.weight, saved.weight)


def test_parts_to_drop_may_be_in_either(tmp_path: Path) -> None:
    saved, model = OwnModel(), OwnModel()
    torch.save(
        {key: value for key, value in saved.state_dict().items() if 'classify' not in key}, tmp_path / 'a.pth'
    )
    load_model(model, tmp_path / 'a.pth', drop=('classify',))
    assert torch.equal(model.encoder.weight, saved.encoder.weight)
    assert not torch.equal(model.classify.weight, saved.classify.weight)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    saved, model = OwnModel(), OwnModel()
    saved.classify.bias.data[1] = value
    torch.save(saved.state_dict(), tmp_path / 'a.pth')
    before = model.encoder.weight.clone()
    with pytest.raises(
        ValueError, match=r'a\.pth: classify\.bias holds NaN or infinite values.*earlier checkpoint'
    ):
        load_model(model, tmp_path / 'a.pth')
    assert torch.equal(model.encoder.weight, before)
