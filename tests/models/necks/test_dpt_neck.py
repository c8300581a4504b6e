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


HYBRID = dict(in_channels=12, channels=8, post_process_channels=(4, 6, 8, 12), identity_levels=(0, 1))


def hybrid_taps() -> list:
    torch.manual_seed(0)
    return [torch.randn(2, 4, 16, 24), torch.randn(2, 6, 8, 12), *taps(4, 6)[2:]]


@pytest.mark.parametrize('readout', ['ignore', 'add', 'project'])
def test_identity_levels_go_straight_to_their_convolution(readout: str) -> None:
    neck, tokens = DPTNeck(**HYBRID, readout_type=readout), hybrid_taps()
    assert [tuple(x.shape[-2:]) for x in neck(tokens)] == [(32, 48), (16, 24), (8, 12), (4, 6)]
    assembled = neck.reassemble_blocks(tokens)
    assert assembled[0] is tokens[0]
    assert assembled[1] is tokens[1]


def test_parameters_of_a_level_bear_its_number_whatever_levels_are_identities() -> None:
    plain, hybrid = (set(DPTNeck(**arguments).state_dict()) for arguments in (SMALL, HYBRID))
    assert hybrid < plain
    missing = {name.split('.', 1)[1] for name in plain - hybrid}
    lists = ('projects', 'resize_layers', 'readout_projects')
    assert {'.'.join(name.split('.')[:2]) for name in missing} == {f'{x}.{i}' for x in lists for i in (0, 1)}


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
    with pytest.raises(ValueError, match='identity_levels=.4,. must be'):
        DPTNeck(**SMALL, identity_levels=(4,))
    with pytest.raises(ValueError, match='tap 1 .* class token'):
        DPTNeck(**HYBRID)([hybrid_taps()[0], *taps(4, 4)[1:]])
    with pytest.raises(ValueError, match='tap 0 .* identity_levels'):
        DPTNeck(**SMALL)(hybrid_taps())
    with pytest.raises(ValueError, match="use 'BN'"):
        DPTNeck(**SMALL, norm='GN')
