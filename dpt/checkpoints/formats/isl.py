"""The original DPT for semantic segmentation (github.com/isl-org/DPT, on timm 0.4.5).

The original loads its files strictly, so a file has exactly the keys of its model: the model is recognised by
comparing whole sets of keys.
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from .table import Format, first
from .vit import TIMM_HYBRID

_STATISTICS = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def _keys() -> dict[str, str]:
    keys = {f'pretrained.model.{theirs}': f'backbone.{ours}' for theirs, ours in TIMM_HYBRID.keys.items()}
    for k in (1, 2, 3, 4):
        level, block = k - 1, 4 - k  # fusion blocks are counted from the coarsest here
        reassemble, unit = 'neck.reassemble_blocks', f'neck.fusion_blocks.{block}.res_conv_unit#.conv#'
        keys |= {
            f'pretrained.act_postprocess{k}.0.project.0.*': f'{reassemble}.readout_projects.{level}.0.*',
            f'pretrained.act_postprocess{k}.3.*': f'{reassemble}.projects.{level}.conv.*',
            f'pretrained.act_postprocess{k}.4.*': f'{reassemble}.resize_layers.{level}.*',
            f'scratch.layer{k}_rn.weight': f'neck.convs.{level}.conv.weight',
            f'scratch.refinenet{k}.out_conv.*': f'neck.fusion_blocks.{block}.project.conv.*',
            f'scratch.refinenet{k}.resConfUnit#.conv#.weight': f'{unit}.conv.weight',
            f'scratch.refinenet{k}.resConfUnit#.bn#.*': f'{unit}.bn.*',
        }
    for theirs, ours in (('scratch.output_conv', 'decode_head'), ('auxlayer', 'auxiliary_heads.0')):
        keys |= {
            f'{theirs}.0.weight': f'{ours}.project.conv.weight',
            f'{theirs}.1.*': f'{ours}.project.bn.*',
            f'{theirs}.4.*': f'{ours}.conv_seg.*',
        }
    return keys


KEYS = _keys()
DROPPED = {
    'pretrained.model.norm.*': 'the original computes the final norm and ignores it: the taps lie before it',
    **{f'pretrained.model.{key}': reason for key, reason in TIMM_HYBRID.dropped.items()},
    'scratch.refinenet4.resConfUnit1.**': 'the coarsest fusion block has no lateral: never called',
}


@dataclass(frozen=True)
class Layout:
    """One of the original's models.

    Args:
        name: the original's name of the encoder, and of the released file if there is one.
        num_layers: transformer layers.
        hybrid: whether a ResNet stem stands before them.
        config: the config of this package that states the model.
        options: what ``--cfg-options`` must change in it.
    """

    name: str
    num_layers: int
    hybrid: bool
    config: str
    options: tuple[str, ...] = ()

    def format(self) -> Format:
        """The whole set of keys, and their table."""
        return Format(f'original DPT, {self.name}', self.keys(), KEYS, DROPPED)

    def keys(self) -> tuple[str, ...]:
        """Every key of a file."""
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
        # 0: readout, 3: projection, 4: another size, which level 3 has already
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
    """Return the layout whose set of keys is exactly ``keys``.

    Raises:
        ValueError: there is none; the message says what the file is, or how it differs from the nearest
            layout.
    """
    found = set(keys)
    for layout in LAYOUTS:
        if found == set(layout.keys()):
            return layout
    if 'scratch.output_conv.0.weight' not in found and 'pretrained.model.pos_embed' not in found:
        raise ValueError(
            'these are not keys of the original DPT, which begin with pretrained. and scratch., such as '
            f'pretrained.model.pos_embed; found {_sample(found)}'
        )
    if 'scratch.output_conv.2.weight' in found:
        raise ValueError(
            'this is a model for depth, not segmentation: its head (scratch.output_conv.2) ends in one '
            'channel and its fusion blocks have no batch norm. Use dpt_large-ade20k or dpt_hybrid-ade20k'
        )
    if 'pretrained.model.dist_token' in found:
        raise ValueError(
            'the encoder has a distillation token (dist_token), which VisionTransformer does not support'
        )
    if 'pretrained.act_postprocess4.0.project.0.weight' not in found:
        raise ValueError(
            "its readout is 'ignore' or 'add', which cannot be seen in the file: only files with readout "
            "'project' (pretrained.act_postprocess4.0.project), as released, are supported"
        )
    nearest = min(LAYOUTS, key=lambda layout: len(found.symmetric_difference(layout.keys())))
    expected = set(nearest.keys())
    raise ValueError(
        f'{len(found)} keys, which are not those of any model of the original DPT for segmentation; nearest '
        f'is {nearest.name} with {len(expected)}. Missing: {_sample(expected - found)}. '
        f'Not known: {_sample(found - expected)}. Convert a file that the original loads, as it was released'
    )


def _sample(keys: Collection[str]) -> str:
    return first(sorted(keys), 5) or 'none'
