"""Key tables of the original DPT for semantic segmentation (github.com/isl-org/DPT, on timm 0.4.5).

The original loads its files strictly, so a file has the keys of its model, neither more nor fewer: which
model it holds is decided by comparing whole sets of keys.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from .format import Format, Rule
from .vit_formats import TIMM_HYBRID

HYBRID_DEPTHS = (3, 4, 9)

_FINAL_NORM = 'the original computes the final norm and throws it away: the taps lie before it'
_NO_LATERAL = 'the coarsest fusion block has no lateral, so this unit is never called'
_BN = r'(weight|bias|running_mean|running_var|num_batches_tracked)'

_BACKBONE = (
    Rule(r'norm\.(weight|bias)', None, _FINAL_NORM),
    *TIMM_HYBRID.rules,
)


def _numbered(source: str, target: str, numbers: dict[int, int]) -> Iterator[Rule]:
    """One rule for each level: the original counts it from 1, and fusion blocks the other way round."""
    for theirs, ours in numbers.items():
        yield Rule(source.replace('{}', str(theirs)), target.replace('{}', str(ours)))


_LEVEL = {1: 0, 2: 1, 3: 2, 4: 3}
_FUSION = {1: 3, 2: 2, 3: 1, 4: 0}
_READOUT = 'neck.reassemble_blocks.readout_projects.{}.0.'
_UNIT = r'scratch\.refinenet{}\.resConfUnit([12])\.'

_NECK = (
    *_numbered(r'pretrained\.act_postprocess{}\.0\.project\.0\.(weight|bias)', _READOUT + r'\1', _LEVEL),
    *_numbered(
        r'pretrained\.act_postprocess{}\.3\.(weight|bias)',
        r'neck.reassemble_blocks.projects.{}.conv.\1',
        _LEVEL,
    ),
    *_numbered(
        r'pretrained\.act_postprocess{}\.4\.(weight|bias)',
        r'neck.reassemble_blocks.resize_layers.{}.\1',
        {1: 0, 2: 1, 4: 3},
    ),
    *_numbered(r'scratch\.layer{}_rn\.weight', 'neck.convs.{}.conv.weight', _LEVEL),
    Rule(r'scratch\.refinenet4\.resConfUnit1\..+', None, _NO_LATERAL),
    *_numbered(
        r'scratch\.refinenet{}\.out_conv\.(weight|bias)', r'neck.fusion_blocks.{}.project.conv.\1', _FUSION
    ),
    *_numbered(
        _UNIT + r'conv([12])\.weight',
        r'neck.fusion_blocks.{}.res_conv_unit\1.conv\2.conv.weight',
        _FUSION,
    ),
    *_numbered(_UNIT + r'bn([12])\.' + _BN, r'neck.fusion_blocks.{}.res_conv_unit\1.conv\2.bn.\3', _FUSION),
)

_HEADS = tuple(
    rule
    for theirs, ours in ((r'scratch\.output_conv', 'decode_head'), ('auxlayer', 'auxiliary_heads.0'))
    for rule in (
        Rule(theirs + r'\.0\.weight', f'{ours}.project.conv.weight'),
        Rule(theirs + r'\.1\.' + _BN, f'{ours}.project.bn.' + r'\1'),
        Rule(theirs + r'\.4\.(weight|bias)', f'{ours}.conv_seg.' + r'\1'),
    )
)

_PREFIX = 'pretrained.model.'


def _in_model(rule: Rule) -> Rule:
    """The rule of a bare backbone for a backbone inside the original's model and ours."""
    target = None if rule.replacement is None else f'backbone.{rule.replacement}'
    return replace(rule.under(re.escape(_PREFIX)), replacement=target)


RULES = (*(_in_model(rule) for rule in _BACKBONE), *_NECK, *_HEADS)


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
        """The whole set of keys, and the rules for them."""
        return Format(name=f'original DPT, {self.name}', signature=self.keys(), rules=RULES)

    def keys(self) -> tuple[str, ...]:
        """Every key of a file."""
        return (*self._backbone_keys(), *self._reassemble_keys(), *_scratch_keys(), *_head_keys('auxlayer'))

    def _backbone_keys(self) -> Iterator[str]:
        names = ['cls_token', 'pos_embed', *_parameters('patch_embed.proj')]
        if self.hybrid:
            names += (f'patch_embed.backbone.{name}' for name in _stem_keys())
        for i in range(self.num_layers):
            for part in ('norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2'):
                names += _parameters(f'blocks.{i}.{part}')
        names += (*_parameters('norm'), *_parameters('head'))
        return (f'{_PREFIX}{name}' for name in names)

    def _reassemble_keys(self) -> Iterator[str]:
        for level in (3, 4) if self.hybrid else (1, 2, 3, 4):
            # 0: readout, 3: projection, 4: another size, which level 3 has already
            for part in ('0.project.0', '3') if level == 3 else ('0.project.0', '3', '4'):
                yield from _parameters(f'pretrained.act_postprocess{level}.{part}')


def _parameters(module: str) -> tuple[str, str]:
    return f'{module}.weight', f'{module}.bias'


def _batch_norm(module: str) -> Iterator[str]:
    return (f'{module}.{name}' for name in _BN.strip('()').split('|'))


def _stem_keys() -> Iterator[str]:
    yield from ('stem.conv.weight', *_parameters('stem.norm'))
    for stage, depth in enumerate(HYBRID_DEPTHS):
        for i in range(depth):
            block = f'stages.{stage}.blocks.{i}'
            if i == 0:
                yield from (f'{block}.downsample.conv.weight', *_parameters(f'{block}.downsample.norm'))
            for number in (1, 2, 3):
                yield from (f'{block}.conv{number}.weight', *_parameters(f'{block}.norm{number}'))


def _scratch_keys() -> Iterator[str]:
    for level in (1, 2, 3, 4):
        yield f'scratch.layer{level}_rn.weight'
        yield from _parameters(f'scratch.refinenet{level}.out_conv')
        for unit in (f'scratch.refinenet{level}.resConfUnit1', f'scratch.refinenet{level}.resConfUnit2'):
            for number in (1, 2):
                yield f'{unit}.conv{number}.weight'
                yield from _batch_norm(f'{unit}.bn{number}')
    yield from _head_keys('scratch.output_conv')


def _head_keys(head: str) -> Iterator[str]:
    yield f'{head}.0.weight'
    yield from (*_batch_norm(f'{head}.1'), *_parameters(f'{head}.4'))


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
    """Find the layout whose set of keys is exactly ``keys``.

    Raises:
        ValueError: none is; the message says what the file is, or how it differs from the nearest layout.
    """
    found = set(keys)
    for layout in LAYOUTS:
        if found == set(layout.keys()):
            return layout
    reason = _why_not(found)
    if reason:
        raise ValueError(reason)
    nearest = min(LAYOUTS, key=lambda layout: len(found.symmetric_difference(layout.keys())))
    expected = set(nearest.keys())
    raise ValueError(
        f'{len(found)} keys, which are those of no model of the original DPT for segmentation; nearest is '
        f'{nearest.name} with {len(expected)}. Missing: {_sample(expected - found)}. '
        f'Not known: {_sample(found - expected)}. Convert a file that the original loads, as it was released'
    )


def _why_not(keys: set[str]) -> str:
    if 'scratch.output_conv.0.weight' not in keys and 'pretrained.model.pos_embed' not in keys:
        return (
            'these are not keys of the original DPT, which begin with pretrained. and scratch., such as '
            f'pretrained.model.pos_embed; found {_sample(keys)}'
        )
    if 'scratch.output_conv.2.weight' in keys:
        return (
            'this is a model for depth, not segmentation: its head (scratch.output_conv.2) ends in one '
            'channel and its fusion blocks have no batch norm. Use dpt_large-ade20k or dpt_hybrid-ade20k'
        )
    if 'pretrained.model.dist_token' in keys:
        return 'the encoder has a distillation token (dist_token), which VisionTransformer lacks'
    if 'pretrained.act_postprocess4.0.project.0.weight' not in keys:
        return (
            "its readout is 'ignore' or 'add', which the original does not write down: only files with "
            "readout 'project' (pretrained.act_postprocess4.0.project), as released, can be told apart"
        )
    return ''


def _sample(keys: Collection[str], count: int = 5) -> str:
    if not keys:
        return 'none'
    rest = len(keys) - count
    return ', '.join(sorted(keys)[:count]) + (f' and {rest} more' if rest > 0 else '')
