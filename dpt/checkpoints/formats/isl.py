"""Checkpoints of the original DPT for semantic segmentation (github.com/isl-org/DPT, timm 0.4.5).

The original loads its files strictly, so a file has exactly the keys of its model. The architecture is
detected by comparing the complete set of keys.
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from .table import first

_STATISTICS = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')

UNUSED_NORM = 'final norm, which the original computes but does not use'
UNUSED_LATERAL = 'never called: the coarsest fusion block has no lateral input'


def scratch_keys(prefix: str = '') -> dict[str, str]:
    """Return the table of the convolutions and fusion blocks in ``scratch``, also in Depth Anything."""
    keys: dict[str, str] = {}
    for k in (1, 2, 3, 4):
        level, block = k - 1, f'neck.fusion_blocks.{4 - k}'  # dpt numbers fusion blocks from the coarsest
        keys |= {
            f'{prefix}scratch.layer{k}_rn.weight': f'neck.convs.{level}.conv.weight',
            f'{prefix}scratch.refinenet{k}.out_conv.*': f'{block}.project.conv.*',
            f'{prefix}scratch.refinenet{k}.resConfUnit#.conv#.*': f'{block}.res_conv_unit#.conv#.conv.*',
            f'{prefix}scratch.refinenet{k}.resConfUnit#.bn#.*': f'{block}.res_conv_unit#.conv#.bn.*',
        }
    return keys


def _neck() -> dict[str, str]:
    keys = scratch_keys()
    for k in (1, 2, 3, 4):
        level, reassemble = k - 1, 'neck.reassemble_blocks'
        keys |= {
            f'pretrained.act_postprocess{k}.0.project.0.*': f'{reassemble}.readout_projects.{level}.0.*',
            f'pretrained.act_postprocess{k}.3.*': f'{reassemble}.projects.{level}.conv.*',
            f'pretrained.act_postprocess{k}.4.*': f'{reassemble}.resize_layers.{level}.*',
        }
    return keys


NECK = _neck()
SEGMENTATION_HEADS = {
    f'{theirs}.{key}': f'{ours}.{target}'
    for theirs, ours in (('scratch.output_conv', 'decode_head'), ('auxlayer', 'auxiliary_heads.0'))
    for key, target in (('0.weight', 'project.conv.weight'), ('1.*', 'project.bn.*'), ('4.*', 'conv_seg.*'))
}
UNUSED = {
    'pretrained.model.norm.*': UNUSED_NORM,
    'scratch.refinenet4.resConfUnit1.**': UNUSED_LATERAL,
}


@dataclass(frozen=True)
class Layout:
    """Architecture of one of the original models.

    Args:
        name: Original name of the encoder, with the name of the released file if there is one.
        num_layers: Number of transformer layers.
        hybrid: Whether a ResNet stem precedes the transformer.
        config: Matching config file of this package.
        options: ``--cfg-options`` to apply to the config.
    """

    name: str
    num_layers: int
    hybrid: bool
    config: str
    options: tuple[str, ...] = ()

    def keys(self) -> tuple[str, ...]:
        """Return all keys of a checkpoint."""
        return tuple(self._keys())

    def _keys(self) -> Iterator[str]:
        model, both = 'pretrained.model', ('weight', 'bias')
        yield from (f'{model}.cls_token', f'{model}.pos_embed')
        yield from _each(f'{model}.{{}}.{{}}', ('patch_embed.proj', 'norm', 'head'), both)
        parts = ('norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2')
        yield from _each(f'{model}.blocks.{{}}.{{}}.{{}}', range(self.num_layers), parts, both)
        if self.hybrid:
            stem = f'{model}.patch_embed.backbone'
            yield from (f'{stem}.stem.conv.weight', f'{stem}.stem.norm.weight', f'{stem}.stem.norm.bias')
            for stage, depth in enumerate((3, 4, 9)):
                blocks = f'{stem}.stages.{stage}.blocks.'
                yield f'{blocks}0.downsample.conv.weight'
                yield from _each(blocks + '0.downsample.norm.{}', both)
                yield from _each(blocks + '{}.conv{}.weight', range(depth), (1, 2, 3))
                yield from _each(blocks + '{}.norm{}.{}', range(depth), (1, 2, 3), both)
        levels = (3, 4) if self.hybrid else (1, 2, 3, 4)
        # 0: readout, 3: projection, 4: resizing, which level 3 does not need
        yield from _each('pretrained.act_postprocess{}.{}.{}', levels, ('0.project.0', '3'), both)
        yield from _each('pretrained.act_postprocess{}.4.{}', {*levels} - {3}, both)
        yield from _each('scratch.layer{}_rn.weight', (1, 2, 3, 4))
        yield from _each('scratch.refinenet{}.out_conv.{}', (1, 2, 3, 4), both)
        unit = 'scratch.refinenet{}.resConfUnit{}'
        yield from _each(unit + '.conv{}.weight', (1, 2, 3, 4), (1, 2), (1, 2))
        yield from _each(unit + '.bn{}.{}', (1, 2, 3, 4), (1, 2), (1, 2), _STATISTICS)
        for head in ('scratch.output_conv', 'auxlayer'):
            yield f'{head}.0.weight'
            yield from _each(head + '.1.{}', _STATISTICS)
            yield from _each(head + '.4.{}', both)


def _each(template: str, *choices: Collection[object]) -> Iterator[str]:
    return itertools.starmap(template.format, itertools.product(*choices))


_LARGE_CONFIG = 'configs/dpt_vit-l16_512x512_160k_ade20k.py'
LARGE = Layout('vitl16_384 (dpt_large-ade20k)', 24, False, _LARGE_CONFIG)
HYBRID = Layout('vitb_rn50_384 (dpt_hybrid-ade20k)', 12, True, 'configs/dpt_hybrid_512x512_160k_ade20k.py')
BASE = Layout(
    'vitb16_384',
    12,
    False,
    _LARGE_CONFIG,
    options=(
        'model.backbone.embed_dims=768',
        'model.backbone.num_layers=12',
        'model.backbone.num_heads=12',
        'model.backbone.out_indices=(2,5,8,11)',
        'model.neck.in_channels=768',
        'model.neck.post_process_channels=(96,192,384,768)',
    ),
)
LAYOUTS = (LARGE, HYBRID, BASE)


def recognise_layout(keys: Collection[str]) -> Layout:
    """Return the layout with exactly these keys.

    Raises:
        ValueError: If there is none. The message says what the file is, or how it differs from the closest
            layout.
    """
    found = set(keys)
    for layout in LAYOUTS:
        if found == set(layout.keys()):
            return layout
    if 'scratch.output_conv.0.weight' not in found and 'pretrained.model.pos_embed' not in found:
        raise ValueError(
            'not a checkpoint of the original DPT, whose keys begin with pretrained. or scratch., such as '
            f'pretrained.model.pos_embed; found {_sample(found)}'
        )
    if 'scratch.output_conv.2.weight' in found:
        raise ValueError(
            'this is a depth model, not a segmentation model; it loads without conversion: give it to '
            'tools/infer.py, load_from or init_model'
        )
    if 'pretrained.model.dist_token' in found:
        raise ValueError(
            'the encoder has a distillation token (dist_token), which VisionTransformer does not support'
        )
    if 'pretrained.act_postprocess4.0.project.0.weight' not in found:
        raise ValueError(
            "its readout is either 'ignore' or 'add', which cannot be determined from the file; only readout "
            "'project' (pretrained.act_postprocess4.0.project), as in the released files, is supported"
        )
    nearest = min(LAYOUTS, key=lambda layout: len(found.symmetric_difference(layout.keys())))
    expected = set(nearest.keys())
    raise ValueError(
        f'the {len(found)} keys match no segmentation model of the original DPT; the closest is '
        f'{nearest.name} with {len(expected)} keys. Missing: {_sample(expected - found)}. '
        f'Unexpected: {_sample(found - expected)}. Convert a released file, unmodified'
    )


def _sample(keys: Collection[str]) -> str:
    return first(sorted(keys), 5) or 'none'
