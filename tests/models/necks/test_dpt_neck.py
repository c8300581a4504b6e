"""DPTNeck: sizes, order, and the projection that was moved before the upsampling."""

import pytest
import torch
import torch.nn.functional as F

from dpt.models.necks import DPTNeck

SMALL = dict(in_channels=12, channels=8, post_process_channels=(4, 6, 8, 12))


def taps(height: int, width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.randn(2, 12, height, width), torch.randn(2, 12)) for _ in range(4)]


@pytest.mark.parametrize('readout', ['ignore', 'add', 'project'])
def test_fused_maps_are_finest_first(readout: str) -> None:
    maps = DPTNeck(**SMALL, readout_type=readout)(taps(4, 6))
    assert [tuple(x.shape) for x in maps] == [
        (2, 8, 32, 48),
        (2, 8, 16, 24),
        (2, 8, 8, 12),
        (2, 8, 4, 6),
    ]


def test_odd_grids_round_up() -> None:
    assert DPTNeck(**SMALL)(taps(3, 5))[0].shape == (2, 8, 32, 48)


def test_projecting_before_upsampling_equals_the_paper_s_order() -> None:
    block = DPTNeck(**SMALL).eval().fusion_blocks[1]
    path, lateral = torch.randn(1, 8, 6, 7), torch.randn(1, 8, 6, 7)
    refined = block.res_conv_unit2(path + block.res_conv_unit1(lateral))
    upsampled = F.interpolate(refined, scale_factor=2, mode='bilinear', align_corners=True)
    torch.testing.assert_close(block(path, lateral), block.project(upsampled), rtol=1e-5, atol=1e-5)


def test_the_class_token_matters_unless_ignored() -> None:
    tokens = taps(4, 4)
    other = [(feature_map, cls_token + 1) for feature_map, cls_token in tokens]
    for readout, same in (('ignore', True), ('add', False), ('project', False)):
        neck = DPTNeck(**SMALL, readout_type=readout).eval()
        assert torch.equal(neck(tokens)[0], neck(other)[0]) is same


def test_inputs_are_not_changed() -> None:
    tokens = taps(4, 4)
    copies = [feature_map.clone() for feature_map, _ in tokens]
    DPTNeck(**SMALL)(tokens)
    assert all(torch.equal(copy, feature_map) for copy, (feature_map, _) in zip(copies, tokens, strict=True))


def test_wrong_arguments_name_themselves() -> None:
    with pytest.raises(ValueError, match='readout_type'):
        DPTNeck(**SMALL, readout_type='concat')
    with pytest.raises(ValueError, match='four numbers'):
        DPTNeck(12, 8, post_process_channels=(4, 6, 8))
    with pytest.raises(ValueError, match='output_cls_token'):
        DPTNeck(**SMALL)([feature_map for feature_map, _ in taps(4, 4)])
    with pytest.raises(ValueError, match='four taps'):
        DPTNeck(**SMALL)(taps(4, 4)[:3])
    with pytest.raises(ValueError, match="use 'BN'"):
        DPTNeck(**SMALL, norm='GN')
