"""Functions from logits to label maps of the original image; whole predictions: test_segmentor.py."""

import pytest
import torch
import torch.nn.functional as F

from dpt.models import inference
from dpt.models.inference import Geometry, label_map, resize, restored, sliding_strips


def test_logits_of_odd_sizes_are_restored_in_place() -> None:
    # A ramp survives bilinear resizing away from the borders, so a shift would show.
    ramp = torch.linspace(0, 1, 704)[None, None].expand(1, 512, 704)
    half = F.interpolate(ramp[None], scale_factor=0.5, mode='bilinear', align_corners=False)[0]
    geometry = Geometry(input_shape=(512, 704), img_shape=(512, 683), ori_shape=(512, 683))
    restored = geometry.restore(half[None])[0]
    assert restored.shape == (1, 512, 683)
    assert (restored - ramp[..., :683])[..., 4:-4].abs().max() < 1e-4


def identity(x: torch.Tensor) -> torch.Tensor:
    return x


def test_label_maps_are_small_integers_and_first_maximum_wins() -> None:
    scores = torch.zeros(1, 300, 2, 2)
    assert label_map(scores[:, :256], identity, (2, 2)).dtype == torch.uint8
    assert label_map(scores, identity, (2, 2)).unique().tolist() == [0]
    scores[:, 299] = 1
    assert label_map(scores, identity, (2, 2)).unique().tolist() == [299]


@pytest.mark.parametrize('chunk_bytes', [1, 4 * 13 * 17 * 3, 1 << 30])
@pytest.mark.parametrize('classes', [1, 5, 16, 37])
def test_chunks_of_classes_equal_all_at_once(
    chunk_bytes: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, 'CHUNK_BYTES', chunk_bytes)
    logits, size = torch.randn(1, classes, 7, 8), (13, 17)
    whole = resize(logits, size)
    found = restored(logits, lambda x: resize(x, size), size)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(label_map(logits, lambda x: resize(x, size), size).long(), found.argmax(1))


def pointwise(images: torch.Tensor) -> torch.Tensor:
    return torch.cat([images, 1 - images], dim=1)


def test_sums_of_low_precision_logits_are_float32() -> None:
    images = torch.rand(1, 1, 16, 64)
    _, logits = next(sliding_strips(lambda x: pointwise(x).bfloat16(), images, (16, 16), (16, 1)))
    assert logits.dtype == torch.float32
    # Sixteen equal windows: their mean is each of them, not what sixteen roundings make of it.
    assert torch.equal(logits[..., 20:40], pointwise(images).bfloat16().float()[..., 20:40])


def test_strips_are_as_low_as_a_window() -> None:
    strips = sliding_strips(pointwise, torch.rand(1, 1, 200, 20), (16, 20), (10, 10))
    assert max(strip.shape[-2] for _, strip in strips) <= 16 + 1  # the row that two strips share


def test_stride_beyond_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match='stride'):
        next(sliding_strips(pointwise, torch.rand(1, 1, 8, 8), (4, 4), (5, 4)))
