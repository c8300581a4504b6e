"""Pure functions between logits and the original image."""

import pytest
import torch
import torch.nn.functional as F

from dpt.models.inference import label_map, restored_rows
from dpt.models.layers import rows_of


def restore_logits(logits: torch.Tensor, **shapes) -> torch.Tensor:
    """All rows of the restored logits of shape KxHxW, in two bands."""
    rows = restored_rows(rows_of(logits[None]), (logits.shape[-2], logits.shape[-1]), **shapes)
    height = shapes['ori_shape'][0]
    return torch.cat([rows(0, height // 3), rows(height // 3, height)], dim=-2)[0]


@pytest.mark.parametrize(
    ('direction', 'dims'), [('horizontal', (2,)), ('vertical', (1,)), ('diagonal', (1, 2))]
)
def test_a_flipped_padded_input_comes_back_in_place(direction: str, dims: tuple[int, ...]) -> None:
    original = torch.rand(3, 13, 17)
    padded = F.pad(original.flip(dims), (0, 15, 0, 3), value=9.0)
    restored = restore_logits(
        padded, input_shape=(16, 32), img_shape=(13, 17), ori_shape=(13, 17), flip_direction=direction
    )
    assert torch.equal(restored, original)


def test_logits_of_odd_sizes_come_back_in_place() -> None:
    # A ramp survives bilinear resizing away from the borders, so a shift would show.
    ramp = torch.linspace(0, 1, 704)[None, None].expand(1, 512, 704)
    half = F.interpolate(ramp[None], scale_factor=0.5, mode='bilinear', align_corners=False)[0]
    restored = restore_logits(half, input_shape=(512, 704), img_shape=(512, 683), ori_shape=(512, 683))
    assert restored.shape == (1, 512, 683)
    assert (restored - ramp[..., :683])[..., 4:-4].abs().max() < 1e-4


def test_label_maps_are_small_integers() -> None:
    scores = torch.zeros(300, 2, 2)
    scores[299] = 1
    assert label_map(scores).tolist() == [[[299, 299], [299, 299]]]
    assert label_map(scores[:256]).dtype == torch.uint8


@pytest.mark.parametrize('direction', [None, 'horizontal', 'vertical', 'diagonal'])
@pytest.mark.parametrize('ori_shape', [(13, 17), (29, 9), (9, 31)])
def test_rows_and_columns_one_after_the_other_are_both_at_once(
    direction: str | None, ori_shape: tuple
) -> None:
    logits = torch.randn(3, 11, 12, dtype=torch.float32)
    shapes = dict(input_shape=(22, 24), img_shape=(19, 23), ori_shape=ori_shape)
    whole = F.interpolate(logits[None], size=(22, 24), mode='bilinear', align_corners=False)[..., :19, :23]
    dims = dict(horizontal=(-1,), vertical=(-2,), diagonal=(-2, -1)).get(direction or '', ())
    whole = F.interpolate(whole.flip(dims), size=ori_shape, mode='bilinear', align_corners=False)[0]
    restored = restore_logits(logits, **shapes, flip_direction=direction)
    torch.testing.assert_close(restored, whole, rtol=0, atol=1e-5)
