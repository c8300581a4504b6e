"""DPTHead and FCNHead: which map they classify, at which size, and their dropout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dpt.models.heads import DPTHead, FCNHead


def maps() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 6, 8 // 2**i, 12 // 2**i) for i in range(4)]


@pytest.mark.parametrize(
    ('head', 'size'), [(DPTHead(6, 3), (8, 12)), (FCNHead(6, 3), (4, 6)), (FCNHead(6, 3, in_index=2), (2, 3))]
)
def test_each_head_takes_its_map(head: torch.nn.Module, size: tuple[int, int]) -> None:
    assert head(maps()).shape == (2, 3, *size)


def test_upsampling_follows_the_classifier_with_aligned_corners() -> None:
    plain, enlarged = DPTHead(6, 3).eval(), DPTHead(6, 3, upsample_factor=2).eval()
    enlarged.load_state_dict(plain.state_dict())
    expected = F.interpolate(plain(maps()), size=(16, 24), mode='bilinear', align_corners=True)
    torch.testing.assert_close(enlarged(maps()), expected)
    with pytest.raises(ValueError, match='upsample_factor=0'):
        DPTHead(6, 3, upsample_factor=0)


def test_group_norm_has_32_groups_and_key_of_mmcv() -> None:
    head = FCNHead(6, 3, channels=64, in_index=0, norm='GN').eval()
    assert {'project.conv.weight', 'project.gn.weight', 'project.gn.bias'} < set(head.state_dict())
    groups = head.project.conv(maps()[0]).unflatten(1, (32, 2))
    normed = (groups - groups.mean((2, 3, 4), keepdim=True)) / (
        groups.var((2, 3, 4), unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    torch.testing.assert_close(head(maps()), head.conv_seg(normed.flatten(1, 2).relu()))


@pytest.mark.parametrize('head', [DPTHead, FCNHead])
@pytest.mark.parametrize('channel_dropout', [True, False])
def test_dropout_is_of_channels_or_of_elements(head: type, channel_dropout: bool) -> None:
    torch.manual_seed(0)
    module = head(6, 3, dropout_ratio=0.5, channel_dropout=channel_dropout).train()
    kept = module.dropout(torch.ones(4, 6, 8, 12)) != 0
    whole = torch.stack([kept.all(dim=(2, 3)), ~kept.any(dim=(2, 3))]).any(dim=0)
    assert whole.all().item() is channel_dropout
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.25)


@pytest.mark.parametrize('head', [DPTHead, FCNHead])
def test_one_class_is_refused(head: type) -> None:
    with pytest.raises(ValueError, match='num_classes=1 must be 2 or more.*background as a class'):
        head(6, 1)


@pytest.mark.parametrize('bias', [True, False])
def test_own_classifiers_keep_their_initial_weights(bias: bool) -> None:
    head = DPTHead(6, 3)
    head.conv_seg = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Conv2d(6, 3, 1, bias=bias))
    before = head.conv_seg[0].weight.clone()
    head.init_weights()
    assert torch.equal(head.conv_seg[0].weight, before)
    plain = DPTHead(6, 3)
    plain.conv_seg = nn.Conv2d(6, 3, 1, bias=bias)
    plain.init_weights()
    assert plain.conv_seg.weight.abs().max() < 0.1
