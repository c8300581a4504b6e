"""Pure functions between logits and the original image."""

import pytest
import torch
import torch.nn.functional as F

from dpt.models.inference import label_map, restored_rows, slide_logits, window_starts
from dpt.models.layers import rows_of


def pointwise(images: torch.Tensor) -> torch.Tensor:
    """A model whose logits depend on each pixel alone."""
    return torch.cat([images, 1 - images], dim=1)


@pytest.mark.parametrize(
    ('length', 'crop', 'stride'), [(10, 4, 3), (10, 10, 7), (7, 10, 5), (11, 4, 4), (1, 4, 1)]
)
def test_windows_cover_everything_and_stay_inside(length: int, crop: int, stride: int) -> None:
    covered = set()
    for start in window_starts(length, crop, stride):
        assert start >= 0
        assert start + min(crop, length) <= length
        covered.update(range(start, start + min(crop, length)))
    assert covered == set(range(length))


@pytest.mark.parametrize('size', [(24, 40), (33, 41), (9, 50)])
def test_sliding_a_pointwise_model_gives_its_whole_logits(size: tuple[int, int]) -> None:
    images = torch.rand(2, 1, *size)
    logits = slide_logits(pointwise, images, (16, 20), (7, 11))
    torch.testing.assert_close(logits, pointwise(images))


def test_slide_equals_whole_when_the_window_covers_the_image() -> None:
    images = torch.rand(1, 1, 12, 20)

    def coarse(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(pointwise(x), 2)

    whole = F.interpolate(coarse(images), size=(12, 20), mode='bilinear', align_corners=False)
    torch.testing.assert_close(slide_logits(coarse, images, (32, 32), (16, 16)), whole)


def test_overlapping_windows_are_averaged() -> None:
    calls = []

    def counting(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return torch.full((1, 1, *x.shape[-2:]), float(len(calls)))

    logits = slide_logits(counting, torch.zeros(1, 1, 2, 6), (2, 4), (2, 2))
    assert logits[0, 0, 0].tolist() == [1, 1, 1.5, 1.5, 2, 2]


def test_stride_beyond_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match='stride'):
        slide_logits(pointwise, torch.rand(1, 1, 8, 8), (4, 4), (5, 4))


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
