"""Pure functions between logits and the original image."""

import pytest
import torch
import torch.nn.functional as F

from dpt.models import inference
from dpt.models.inference import Geometry, label_map, resize, restored


def restore_logits(logits: torch.Tensor, **shapes) -> torch.Tensor:
    """Return the restored logits of shape KxHxW."""
    return Geometry(**shapes).restore(logits[None])[0]


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


def identity(x: torch.Tensor) -> torch.Tensor:
    return x


def test_label_maps_are_small_integers() -> None:
    scores = torch.zeros(1, 300, 2, 2)
    scores[:, 299] = 1
    assert label_map(scores, identity, (2, 2)).tolist() == [[[299, 299], [299, 299]]]
    assert label_map(scores[:, :256], identity, (2, 2)).dtype == torch.uint8


@pytest.mark.parametrize('chunk_bytes', [1, 4 * 13 * 17 * 3, 1 << 30])
@pytest.mark.parametrize('classes', [1, 5, 16, 37])
def test_a_few_classes_at_a_time_equal_all_at_once(
    chunk_bytes: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, 'CHUNK_BYTES', chunk_bytes)
    logits, size = torch.randn(1, classes, 7, 8), (13, 17)
    whole = resize(logits, size)
    found = restored(logits, lambda x: resize(x, size), size)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(label_map(logits, lambda x: resize(x, size), size).long(), found.argmax(1))


def test_the_first_of_equal_scores_wins() -> None:
    assert label_map(torch.zeros(1, 40, 3, 3), identity, (3, 3)).unique().tolist() == [0]


@pytest.mark.parametrize('direction', [None, 'horizontal', 'vertical', 'diagonal'])
@pytest.mark.parametrize('ori_shape', [(13, 17), (29, 9), (9, 31), (19, 23)])
def test_strips_restore_to_the_rows_of_the_whole(direction: str | None, ori_shape: tuple) -> None:
    geometry = Geometry((22, 24), (19, 23), ori_shape, direction)
    logits = torch.randn(1, 3, 22, 24)
    whole, found, first = geometry.restore(logits), [], 0
    for top, bottom in ((0, 5), (4, 6), (5, 14), (13, 22)):
        last = inference.restorable_rows(bottom, geometry)
        if last > first:
            found.append(geometry.restore_strip(logits[..., top:bottom, :], top, first, last))
        first = last
    assert first == ori_shape[0]
    if direction in ('vertical', 'diagonal'):
        found.reverse()
    torch.testing.assert_close(torch.cat(found, dim=-2), whole, rtol=0, atol=1e-5)
