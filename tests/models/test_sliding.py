"""Strips of averaged windows, against sums over the whole image."""

import pytest
import torch
import torch.nn.functional as F

from dpt.models.inference import resize, sliding_strips, window_starts


def pointwise(images: torch.Tensor) -> torch.Tensor:
    """A model whose logits depend on each pixel alone."""
    return torch.cat([images, 1 - images], dim=1)


def coarse(images: torch.Tensor) -> torch.Tensor:
    """A model at half the resolution, whose logits at a pixel depend on where the window lies."""
    return F.avg_pool2d(pointwise(images), 2) * images.mean().exp()


def slide(model, images: torch.Tensor, crop_size, stride) -> torch.Tensor:
    """Return the logits of the whole image, joined from its strips."""
    rows = torch.Tensor()
    for top, strip in sliding_strips(model, images, crop_size, stride):
        if top:
            assert torch.equal(rows[..., top:, :], strip[..., :1, :])  # strips share one row
        rows = torch.cat([rows[..., :top, :], strip], dim=-2) if top else strip.clone()
    return rows


def whole_sums(model, images: torch.Tensor, crop_size, stride) -> torch.Tensor:
    """The same with one sum over the whole image, as MMSegmentation does it."""
    height, width = images.shape[-2:]
    total, count = None, images.new_zeros(1, 1, height, width)
    for top in window_starts(height, crop_size[0], stride[0]):
        for left in window_starts(width, crop_size[1], stride[1]):
            window = (..., slice(top, top + crop_size[0]), slice(left, left + crop_size[1]))
            crop = images[window]
            logits = resize(model(crop), crop.shape[-2:])
            total = logits.new_zeros(*logits.shape[:2], height, width) if total is None else total
            total[window] += logits
            count[window] += 1
    return total.div_(count)


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


@pytest.mark.parametrize(
    ('size', 'crop_size', 'stride'),
    [((51, 33), (16, 16), (10, 11)), ((40, 40), (16, 24), (4, 5)), ((48, 9), (16, 16), (16, 16))],
)
def test_strips_equal_the_sums_over_the_whole_image(size, crop_size, stride) -> None:
    settings = (coarse, torch.rand(1, 2, *size), crop_size, stride)
    torch.testing.assert_close(slide(*settings), whole_sums(*settings), rtol=1e-5, atol=1e-6)


def test_sums_of_low_precision_logits_are_float32() -> None:
    images = torch.rand(1, 1, 16, 64)
    strips = sliding_strips(lambda x: pointwise(x).bfloat16(), images, (16, 16), (16, 1))
    _, logits = next(strips)
    assert logits.dtype == torch.float32
    # Sixteen equal windows: their mean is each of them, not what sixteen roundings make of it.
    assert torch.equal(logits[..., 20:40], pointwise(images).bfloat16().float()[..., 20:40])


@pytest.mark.parametrize('stride', [10, 16])
def test_each_window_runs_once_and_strips_are_low(stride: int) -> None:
    calls = []

    def model(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return pointwise(x)

    strips = list(sliding_strips(model, torch.rand(1, 1, 200, 20), (16, 20), (stride, 10)))
    assert len(calls) == len(window_starts(200, 16, stride))
    assert max(strip.shape[-2] for _, strip in strips) <= 16 + 1


def test_stride_beyond_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match='stride'):
        slide(pointwise, torch.rand(1, 1, 8, 8), (4, 4), (5, 4))
