"""DPTNeck: sizes and order of its maps, readouts and identity levels; values: test_*_reference.py."""

import pytest
import torch

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


def test_class_token_matters_unless_ignored() -> None:
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
def test_identity_levels_skip_reassembly(readout: str) -> None:
    neck, tokens = DPTNeck(**HYBRID, readout_type=readout), hybrid_taps()
    assert [tuple(x.shape[-2:]) for x in neck(tokens)] == [(32, 48), (16, 24), (8, 12), (4, 6)]
    assembled = neck.reassemble_blocks(tokens)
    assert assembled[0] is tokens[0]
    assert assembled[1] is tokens[1]


def test_inputs_are_not_changed() -> None:
    tokens = taps(4, 4)
    copies = [feature_map.clone() for feature_map, _ in tokens]
    DPTNeck(**SMALL)(tokens)
    assert all(torch.equal(copy, feature_map) for copy, (feature_map, _) in zip(copies, tokens, strict=True))


def test_wrong_arguments_are_named() -> None:
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
