"""Overlapping windows over an image, averaged as they are passed: no map of all logits is ever held."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dpt.models.inference import Size, resize_logits

SEGMENT = 64
"""Rows that are dropped together at most."""


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows of ``crop`` pixels begin so that they cover ``length``; the last one ends flush."""
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, length) - crop, 0) for i in range(count)]


class SlidingRows:
    """The averaged logits of overlapping windows, to be asked for by rows.

    Called with ``(top, bottom)``, it returns logits of shape BxKx(bottom - top)xW. Windows are run when their
    rows are asked for, and sums are dropped once bands have passed them: from top to bottom, what is held is
    ``4 x B x K x W`` bytes for each row of one window, of the band and of :data:`SEGMENT`. Asked for rows
    that it has passed (as for an image that was flipped vertically), it starts once more and then keeps the
    sums of all rows.

    Args:
        model: From images of shape BxCxHxW to logits of shape BxKxhxw of any spatial size.
        images: Tensor of shape BxCxHxW.
        crop_size: Window (height, width); where it exceeds the image the window is the image.
        stride: Step (vertical, horizontal); at most the window, else pixels would stay without logits.

    Raises:
        ValueError: If the stride leaves gaps.
    """

    def __init__(
        self, model: Callable[[Tensor], Tensor], images: Tensor, crop_size: Size, stride: Size
    ) -> None:
        if any(s > c or s < 1 for s, c in zip(stride, crop_size, strict=True)):
            raise ValueError(f'test_cfg.stride={stride} must be from 1 to crop_size={crop_size}')
        self.model = model
        self.images = images
        height, width = images.shape[-2:]
        self.tops, self.lefts = (
            window_starts(length, crop, step)
            for length, crop, step in zip((height, width), crop_size, stride, strict=True)
        )
        self.bottoms = [min(top + crop_size[0], height) for top in self.tops]
        self.rights = [min(left + crop_size[1], width) for left in self.lefts]
        # Between two edges all rows are in the same windows: they are summed and dropped together.
        edges = sorted({*self.tops, *self.bottoms, *range(0, height, SEGMENT)})
        self.segments = list(zip(edges[:-1], edges[1:], strict=True))
        # Once, before the windows are run: for a copy to a GPU the host waits until that has nothing to do.
        self._vertical = self._covering(self.tops, self.bottoms, height)
        self._horizontal = self._covering(self.lefts, self.rights, width)
        self.keep_all = False
        self._restart()

    def _restart(self) -> None:
        self._sums: dict[int, Tensor] = {}  # by the segment's first row
        self._done = 0  # rows of windows that were run
        self._passed = 0  # rows that were dropped

    def __call__(self, top: int, bottom: int) -> Tensor:
        if top < self._passed:
            self.keep_all = True
            self._restart()
        self._drop_above(top)
        while self._done < len(self.tops) and self.tops[self._done] < bottom:
            self._run_windows(self.tops[self._done], self.bottoms[self._done])
            self._done += 1
            self._drop_above(top)
        bands = [
            self._sums[start][..., max(top - start, 0) : bottom - start, :]
            for start, end in self.segments
            if start < bottom and end > top
        ]
        total = torch.cat(bands, dim=-2)
        return total.div_(self._counts(top, bottom))

    def _drop_above(self, top: int) -> None:
        if self.keep_all:
            return
        for start, end in self.segments:
            if end <= top:
                self._passed = max(self._passed, end)
                self._sums.pop(start, None)

    def _run_windows(self, top: int, bottom: int) -> None:
        for left, right in zip(self.lefts, self.rights, strict=True):
            logits = resize_logits(
                self.model(self.images[..., top:bottom, left:right]), (bottom - top, right - left)
            )
            for start, end in self._segments_in(top, bottom):
                if start not in self._sums:
                    shape = (*logits.shape[:2], end - start, self.images.shape[-1])
                    self._sums[start] = logits.new_zeros(shape)
                self._sums[start][..., left:right] += logits[..., start - top : end - top, :]

    def _segments_in(self, top: int, bottom: int) -> Iterator[tuple[int, int]]:
        return ((start, end) for start, end in self.segments if start >= top and end <= bottom)

    def _covering(self, starts: list[int], ends: list[int], length: int) -> Tensor:
        """How many windows cover each place of a side, of shape (length)."""
        places = torch.arange(length)
        inside = (torch.tensor(starts)[:, None] <= places) & (places < torch.tensor(ends)[:, None])
        return inside.sum(dim=0).to(self.images)

    def _counts(self, top: int, bottom: int) -> Tensor:
        """How many windows hold each pixel of a band, of shape (bottom - top)xW."""
        return self._vertical[top:bottom, None] * self._horizontal
