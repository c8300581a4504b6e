"""Windows that are averaged as they are passed, against sums over the whole image."""

import pytest
import torch
import torch.nn.functional as F

from dpt.models.inference import resize_logits
from dpt.models.sliding import SlidingRows, window_starts


def pointwise(images: torch.Tensor) -> torch.Tensor:
    """A model whose logits depend on each pixel alone."""
    return torch.cat([images, 1 - images], dim=1)


def coarse(images: torch.Tensor) -> torch.Tensor:
    """A model at half the resolution, whose logits at a pixel depend on where the window lies."""
    return F.avg_pool2d(pointwise(images), 2) * images.mean().exp()


def slide(model, images: torch.Tensor, crop_size, stride) -> torch.Tensor:
    """All rows at once."""
    return SlidingRows(model, images, crop_size, stride)(0, images.shape[-2])


def whole_sums(model, images: torch.Tensor, crop_size, stride) -> torch.Tensor:
    """The same with one sum over the whole image, as MMSegmentation does it."""
    height, width = images.shape[-2:]
    total, count = None, images.new_zeros(1, 1, height, width)
    for top in window_starts(height, crop_size[0], stride[0]):
        for left in window_starts(width, crop_size[1], stride[1]):
            window = (..., slice(top, top + crop_size[0]), slice(left, left + crop_size[1]))
            crop = images[window]
            logits = resize_logits(model(crop), crop.shape[-2:])
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


@pytest.mark.parametrize('size', [(24, 40), (33, 41), (9, 50)])
def test_sliding_a_pointwise_model_gives_its_whole_logits(size: tuple[int, int]) -> None:
    images = torch.rand(2, 1, *size)
    torch.testing.assert_close(slide(pointwise, images, (16, 20), (7, 11)), pointwise(images))


def test_slide_equals_whole_when_the_window_covers_the_image() -> None:
    images = torch.rand(1, 1, 12, 20)
    whole = F.interpolate(coarse(images), size=(12, 20), mode='bilinear', align_corners=False)
    torch.testing.assert_close(slide(coarse, images, (32, 32), (16, 16)), whole)


def test_overlapping_windows_are_averaged() -> None:
    calls = []

    def counting(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return torch.full((1, 1, *x.shape[-2:]), float(len(calls)))

    logits = slide(counting, torch.zeros(1, 1, 2, 6), (2, 4), (2, 2))
    assert logits[0, 0, 0].tolist() == [1, 1, 1.5, 1.5, 2, 2]


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('step', [1, 5, 16, 100])
@pytest.mark.parametrize('order', ['down', 'up'])
@pytest.mark.parametrize(
    ('size', 'crop_size', 'stride'),
    [((51, 33), (16, 16), (10, 11)), ((40, 40), (16, 24), (4, 5)), ((48, 9), (16, 16), (16, 16))],
)
def test_bands_are_bit_by_bit_those_of_whole_sums(size, crop_size, stride, order, step, dtype) -> None:
    images = torch.rand(1, 2, *size)
    settings = (lambda x: coarse(x).to(dtype), images, crop_size, stride)
    rows, expected = SlidingRows(*settings), whole_sums(*settings)
    tops = range(0, size[0], step)
    for top in tops if order == 'down' else reversed(tops):
        bottom = min(top + step, size[0])
        above = max(top - 1, 0)  # neighbouring bands share a row, where they are resized
        band = rows(above, bottom)
        assert band.dtype == dtype
        assert torch.equal(band, expected[..., above:bottom, :])
        band.zero_()  # what is handed out belongs to the caller


@pytest.mark.parametrize('stride', [10, 16])
@pytest.mark.parametrize('height', [200, 2000])
def test_what_is_held_does_not_grow_with_the_height_and_each_window_runs_once(
    height: int, stride: int, monkeypatch
) -> None:
    monkeypatch.setattr('dpt.models.sliding.SEGMENT', 4)
    calls = []

    def model(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return pointwise(x)

    rows = SlidingRows(model, torch.rand(1, 1, height, 20), (16, 20), (stride, 10))
    for top in range(0, height - 8, 8):
        rows(max(top - 1, 0), top + 8)
        assert sum(band.shape[-2] for band in rows._sums.values()) <= 16 + 9 + 4
    assert len(calls) == len(window_starts(height, 16, stride))


def test_stride_beyond_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match='stride'):
        slide(pointwise, torch.rand(1, 1, 8, 8), (4, 4), (5, 4))


def test_bands_copy_nothing_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = SlidingRows(pointwise, torch.rand(1, 3, 8, 8, device='meta'), (4, 4), (4, 2))
    monkeypatch.setattr(torch.Tensor, 'to', lambda *_: pytest.fail('the host waits for the device'))
    assert rows(0, 5).is_meta
    assert rows._counts(2, 5).shape == (3, 8)
