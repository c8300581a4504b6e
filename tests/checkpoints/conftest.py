"""Modules that hold tensors under given names, and state dicts in the names of each source."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn


class Holder(nn.Module):
    """A module without a forward pass, with parameters under the given dotted names, filled with -1."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
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
    layers: int = 2, width: int = 4, patch: int = 2, grid: int = 3, layer_scale: bool = False
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a tiny backbone without final norm."""
    shapes: dict[str, tuple[int, ...]] = {
        'cls_token': (1, 1, width),
        'pos_embed': (1, 1 + grid * grid, width),
        'patch_embed.projection.weight': (width, 3, patch, patch),
        'patch_embed.projection.bias': (width,),
    }
    for i in range(layers):
        layer = {
            'ln1.weight': (width,),
            'ln1.bias': (width,),
            'attn.attn.in_proj_weight': (3 * width, width),
            'attn.attn.in_proj_bias': (3 * width,),
            'attn.attn.out_proj.weight': (width, width),
            'attn.attn.out_proj.bias': (width,),
            'ln2.weight': (width,),
            'ln2.bias': (width,),
            'ffn.layers.0.0.weight': (2 * width, width),
            'ffn.layers.0.0.bias': (2 * width,),
            'ffn.layers.1.weight': (width, 2 * width),
            'ffn.layers.1.bias': (width,),
        }
        if layer_scale:
            layer.update({'ls1.gamma': (width,), 'ls2.gamma': (width,)})
        shapes.update({f'layers.{i}.{name}': shape for name, shape in layer.items()})
    return shapes


def neck_shapes(width: int = 4) -> dict[str, tuple[int, ...]]:
    """Names of the whole neck, without its prefix, in shapes that are small rather than real."""
    shapes: dict[str, tuple[int, ...]] = {}
    for s in range(4):
        shapes[f'reassemble_blocks.readout_projects.{s}.0.weight'] = (width, 2 * width)
        shapes[f'reassemble_blocks.readout_projects.{s}.0.bias'] = (width,)
        shapes[f'reassemble_blocks.projects.{s}.conv.weight'] = (2 + s, width, 1, 1)
        shapes[f'reassemble_blocks.projects.{s}.conv.bias'] = (2 + s,)
        shapes[f'convs.{s}.conv.weight'] = (width, 2 + s, 3, 3)
        if s != 2:
            shapes[f'reassemble_blocks.resize_layers.{s}.weight'] = (2 + s, 2 + s, 2, 2)
            shapes[f'reassemble_blocks.resize_layers.{s}.bias'] = (2 + s,)
    for f in range(4):
        for unit in (1, 2)[f == 0 :]:
            for conv in (1, 2):
                stem = f'fusion_blocks.{f}.res_conv_unit{unit}.conv{conv}'
                shapes[f'{stem}.conv.weight'] = (width, width, 3, 3)
                shapes.update({f'{stem}.bn.{name}': (width,) for name in ('weight', 'bias')})
                shapes.update({f'{stem}.bn.running_{name}': (width,) for name in ('mean', 'var')})
                shapes[f'{stem}.bn.num_batches_tracked'] = ()
        shapes[f'fusion_blocks.{f}.project.conv.weight'] = (width, width, 1, 1)
        shapes[f'fusion_blocks.{f}.project.conv.bias'] = (width,)
    return shapes


def head_shapes(width: int = 4, classes: int = 5) -> dict[str, tuple[int, ...]]:
    """Names of what is in the head here and in MMSegmentation, without prefix."""
    return {
        'project.conv.weight': (width, width, 3, 3),
        'project.bn.weight': (width,),
        'project.bn.bias': (width,),
        'conv_seg.weight': (classes, width, 1, 1),
        'conv_seg.bias': (classes,),
    }


def under(prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f'{prefix}.{key}': shape for key, shape in shapes.items()}


def model_shapes(classes: int = 5, **backbone) -> dict[str, tuple[int, ...]]:
    """Names of a whole model of ours."""
    return {
        **under('backbone', backbone_shapes(**backbone)),
        **under('neck', neck_shapes()),
        **under('decode_head', head_shapes(classes=classes)),
    }


def mmseg_shapes(classes: int = 5, **backbone) -> dict[str, tuple[int, ...]]:
    """Names of the same model in MMSegmentation."""
    return {
        **under('backbone', backbone_shapes(**backbone)),
        **under('decode_head', neck_shapes()),
        **under('decode_head', head_shapes(classes=classes)),
    }


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}


class Tiny:
    """What the tests of this folder build from."""

    Holder = Holder
    backbone_shapes = staticmethod(backbone_shapes)
    model_shapes = staticmethod(model_shapes)
    mmseg_shapes = staticmethod(mmseg_shapes)
    random_tensors = staticmethod(random_tensors)


@pytest.fixture(scope='session')
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture
def save(tmp_path, tiny):
    """Write random tensors of the given shapes, changed by ``edit``; return path and tensors."""

    def write(shapes, edit=lambda tensors: None, suffix='.pth'):
        tensors = tiny.random_tensors(shapes)
        edit(tensors)
        path = tmp_path / f'weights{suffix}'
        save_file(tensors, path) if suffix == '.safetensors' else torch.save(tensors, path)
        return path, tensors

    return write
