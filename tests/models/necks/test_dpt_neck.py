"""DPTNeck: sizes and order of its maps; values: test_*_reference.py and test_transformers_dpt.py."""

import pytest
import torch

from dpt.models.necks import DPTNeck, FeatureFusionBlock
from dpt.models.necks.dpt import upsample

SMALL = dict(in_channels=12, channels=8, post_process_channels=(4, 6, 8, 12))
HYBRID = dict(SMALL, identity_levels=(0, 1))


def taps(height: int, width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.randn(2, 12, height, width), torch.randn(2, 12)) for _ in range(4)]


def hybrid_taps() -> list:
    return [torch.randn(2, 4, 16, 24), torch.randn(2, 6, 8, 12), *taps(4, 6)[2:]]


@pytest.mark.parametrize('readout', ['ignore', 'add', 'project'])
@pytest.mark.parametrize(('arguments', 'tokens'), [(SMALL, taps(4, 6)), (HYBRID, hybrid_taps())])
def test_maps_are_finest_first_and_taps_unchanged(arguments: dict, tokens: list, readout: str) -> None:
    parts = [part for tap in tokens for part in (tap if isinstance(tap, tuple) else (tap,))]
    copies = [part.clone() for part in parts]
    maps = DPTNeck(**arguments, readout_type=readout)(tokens)
    assert [tuple(x.shape) for x in maps] == [(2, 8, 32, 48), (2, 8, 16, 24), (2, 8, 8, 12), (2, 8, 4, 6)]
    assert all(torch.equal(*both) for both in zip(copies, parts, strict=True))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(readout_type='concat'), 'readout_type'),
        (dict(post_process_channels=(4, 6, 8)), 'four numbers'),
        (dict(identity_levels=(4,)), 'identity_levels=.4,. must be'),
        (dict(norm='LN'), "norm='LN' is not supported: use 'BN'"),
        (dict(norm='GN'), 'channels divisible by 32, got 8'),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPTNeck(**{**SMALL, **arguments})


@pytest.mark.parametrize(
    ('arguments', 'wrong', 'message'),
    [
        (SMALL, [feature_map for feature_map, _ in taps(4, 4)], 'output_cls_token'),
        (SMALL, taps(4, 4)[:3], 'four taps'),
        (SMALL, hybrid_taps(), 'tap 0 .* identity_levels'),
        (HYBRID, [hybrid_taps()[0], *taps(4, 4)[1:]], 'tap 1 .* class token'),
    ],
)
def test_wrong_taps_are_named(arguments: dict, wrong: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPTNeck(**arguments)(wrong)


class Strided(FeatureFusionBlock):
    def forward(self, path: torch.Tensor, lateral: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(path, lateral)[..., ::2, ::2]


class StridedNeck(DPTNeck):
    fusion_block = Strided


def test_fusion_blocks_that_change_the_size_are_named() -> None:
    with pytest.raises(ValueError, match=r'StridedNeck\.fusion_blocks\.0 changes .* from 2x2 to 1x1'):
        StridedNeck(**SMALL)(taps(4, 4))


class Upsampling(FeatureFusionBlock):
    def forward(self, path: torch.Tensor, lateral: torch.Tensor | None = None) -> torch.Tensor:
        return upsample(super().forward(path, lateral))


class UpsamplingNeck(DPTNeck):
    fusion_block = Upsampling


def test_fusion_blocks_may_upsample_themselves() -> None:
    neck, own = DPTNeck(**SMALL).eval(), UpsamplingNeck(**SMALL).eval()
    own.load_state_dict(neck.state_dict())
    same = taps(4, 4)
    for expected, found in zip(neck(same), own(same), strict=True):
        torch.testing.assert_close(found, expected)
