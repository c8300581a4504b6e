"""Names and shapes of tiny models, and modules that hold tensors under given names."""

import re

import pytest
import torch
from torch import nn

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


def backbone_shapes(
    layers: int = 2, width: int = WIDTH, patch: int = 2, grid: int = 3, layer_scale: bool = False
) -> Shapes:
    """A backbone without final norm."""
    shapes: Shapes = {
        'cls_token': (1, 1, width),
        'pos_embed': (1, 1 + grid * grid, width),
        'patch_embed.projection.weight': (width, 3, patch, patch),
        'patch_embed.projection.bias': (width,),
    }
    for i in range(layers):
        for name, rows, *columns in (
            ('ln1.', width),
            ('attn.attn.in_proj_', 3 * width, width),
            ('attn.attn.out_proj.', width, width),
            ('ln2.', width),
            ('ffn.layers.0.0.', 2 * width, width),
            ('ffn.layers.1.', width, 2 * width),
        ):
            shapes[f'layers.{i}.{name}weight'] = (rows, *columns)
            shapes[f'layers.{i}.{name}bias'] = (rows,)
        if layer_scale:
            shapes.update({f'layers.{i}.ls{k}.gamma': (width,) for k in (1, 2)})
    return shapes


def neck_shapes() -> Shapes:
    """Names of the whole neck, in shapes that are small rather than real."""
    shapes: Shapes = {}
    for s in range(4):
        shapes[f'reassemble_blocks.readout_projects.{s}.0.weight'] = (WIDTH, 2 * WIDTH)
        shapes[f'reassemble_blocks.projects.{s}.conv.weight'] = (2 + s, WIDTH, 1, 1)
        shapes[f'convs.{s}.conv.weight'] = (WIDTH, 2 + s, 3, 3)
        if s != 2:
            shapes[f'reassemble_blocks.resize_layers.{s}.weight'] = (2 + s, 2 + s, 2, 2)
    for f in range(4):
        for unit in (1, 2)[f == 0 :]:
            for conv in (1, 2):
                stem = f'fusion_blocks.{f}.res_conv_unit{unit}.conv{conv}'
                shapes[f'{stem}.conv.weight'] = (WIDTH, WIDTH, 3, 3)
                shapes.update({f'{stem}.bn.{name}': (WIDTH,) for name in ('weight', 'running_mean')})
                shapes[f'{stem}.bn.num_batches_tracked'] = ()
        shapes[f'fusion_blocks.{f}.project.conv.weight'] = (WIDTH, WIDTH, 1, 1)
    return shapes


def head_shapes(classes: int = 5) -> Shapes:
    return {
        'project.conv.weight': (WIDTH, WIDTH, 3, 3),
        'project.bn.weight': (WIDTH,),
        'conv_seg.weight': (classes, WIDTH, 1, 1),
        'conv_seg.bias': (classes,),
    }


def under(prefix: str, shapes: dict) -> dict:
    return {f'{prefix}{key}': shape for key, shape in shapes.items()}


def model_shapes(classes: int = 5, neck: str = 'neck.', **backbone) -> Shapes:
    """A whole model; with ``neck='decode_head.'`` in the names of MMSegmentation."""
    return {
        **under('backbone.', backbone_shapes(**backbone)),
        **under(neck, neck_shapes()),
        **under('decode_head.', head_shapes(classes)),
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
