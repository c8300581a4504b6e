"""Names and shapes of tiny models, and modules that hold tensors under given names."""

import re

import pytest
import torch
from torch import nn

from dpt.models.backbones import VisionTransformer
from dpt.models.heads import DPTHead
from dpt.models.necks import DPTNeck

Shapes = dict[str, tuple[int, ...]]
WIDTH = 4


class Holder(nn.Module):
    """A module without a forward pass, with parameters under the given dotted names, filled with -1."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        for key, shape in shapes.items():
            *parents, name = key.split('.')
            owner: nn.Module = self
            for parent in parents:
                if parent not in dict(owner.named_children()):
                    owner.add_module(parent, nn.Module())
                owner = owner.get_submodule(parent)
            owner.register_parameter(name, nn.Parameter(torch.full(shape, -1.0)))


def shapes_of(module: nn.Module) -> Shapes:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def backbone_shapes(
    layers: int = 2, width: int = WIDTH, patch: int = 2, grid: int = 3, layer_scale: bool = False
) -> Shapes:
    """A backbone without final norm."""
    sizes = dict(embed_dims=width, num_layers=layers, num_heads=1, mlp_ratio=2, out_indices=(layers - 1,))
    with torch.device('meta'):
        scale = 1.0 if layer_scale else None
        return shapes_of(VisionTransformer(grid * patch, patch, **sizes, layer_scale_init=scale))


def under(prefix: str, shapes: dict) -> dict:
    return {f'{prefix}{key}': shape for key, shape in shapes.items()}


def model_shapes(classes: int = 5, neck: str = 'neck.', **backbone) -> Shapes:
    """A whole model; with ``neck='decode_head.'`` in the names of MMSegmentation."""
    return {
        **under('backbone.', backbone_shapes(**backbone)),
        **under(neck, shapes_of(DPTNeck(WIDTH, WIDTH, post_process_channels=(2, 3, 4, 5)))),
        **under('decode_head.', shapes_of(DPTHead(WIDTH, classes))),
    }


def mmseg_shapes(**options) -> Shapes:
    return model_shapes(neck='decode_head.', **options)


def random_tensors(shapes: Shapes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}


def assert_holds(module: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, tensors[key].to(value.dtype), rtol=0, atol=0, msg=key)


def refused(load, module: nn.Module, path, *words: str, **options) -> str:
    """Check that loading raises, naming the file and all words, and leaves a :class:`Holder` as it was."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load(module, path, **options)
    assert all(bool((value == -1).all()) for value in module.state_dict().values())
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)
