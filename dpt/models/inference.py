"""Sliding-window inference and resizing of logits to the original image, as pure functions."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dpt.models.layers import resize

Size = tuple[int, int]
Restore = Callable[[Tensor], Tensor]
FLIP_DIMS = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}

CLASSES_AT_A_TIME = 16
CHUNK_BYTES = 256 << 20
"""Limits on the classes, and the bytes per image, that are resized at a time: the logits of all classes at
the size of a large image would take gigabytes."""


@dataclass(frozen=True)
class Geometry:
    """Geometry of an image inside the network's input. Sizes are (height, width).

    Attributes:
        input_shape: Size of the network's input, including padding at the bottom and right.
        img_shape: Size of the image inside that input.
        ori_shape: Size of the image on disk.
        flip_direction: ``'horizontal'``, ``'vertical'`` or ``'diagonal'`` if the input was flipped.
        mode: Interpolation of the resizing back.
        align_corners: Of the resizing back.
    """

    input_shape: Size
    img_shape: Size
    ori_shape: Size
    flip_direction: str | None = None
    mode: str = 'bilinear'
    align_corners: bool = False

    @classmethod
    def of(
        cls, meta: Mapping, input_shape: Size, *, mode: str = 'bilinear', align_corners: bool = False
    ) -> 'Geometry':
        """Read the geometry from the metainfo of a sample."""
        img_shape = tuple(meta.get('img_shape', input_shape)[:2])
        ori_shape = tuple(meta.get('ori_shape', img_shape)[:2])
        flip_direction = meta.get('flip_direction') if meta.get('flip') else None
        return cls(input_shape, img_shape, ori_shape, flip_direction, mode, align_corners)

    @property
    def flip_dims(self) -> tuple[int, ...]:
        """Dimensions along which the input was flipped."""
        return () if self.flip_direction is None else FLIP_DIMS[self.flip_direction]

    def restore(self, logits: Tensor) -> Tensor:
        """Map logits of shape 1xKxhxw back to the original image.

        Resizes them to the network's input, crops the padding, undoes the flip and resizes the result to the
        original size.

        Returns:
            Float32 tensor of shape 1xKxHxW.
        """
        x = self._resize(logits.float(), self.input_shape)[..., : self.img_shape[0], : self.img_shape[1]]
        if self.flip_dims:
            x = x.flip(self.flip_dims)
        return self._resize(x, self.ori_shape)

    def _resize(self, x: Tensor, size: Size) -> Tensor:
        return resize(x, size, mode=self.mode, align_corners=self.align_corners)

    def source_rows(self, first: int, last: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return the two source rows of each row of a bilinear resize back, and the weight of the second."""
        size_in, size_out = self.img_shape[0], self.ori_shape[0]
        rows = torch.arange(first, last, dtype=torch.float32, device=device)
        if self.align_corners:
            source = rows * ((size_in - 1) / max(size_out - 1, 1))
        else:
            source = ((rows + 0.5) * (size_in / size_out) - 0.5).clamp_(min=0)
        lower = source.long().clamp_(max=size_in - 1)
        return lower, (lower + 1).clamp_(max=size_in - 1), source - lower

    def restore_strip(self, strip: Tensor, top: int, first: int, last: int) -> Tensor:
        """Compute rows ``first`` to ``last`` of :meth:`restore`, counted before a vertical flip is undone.

        Args:
            strip: Logits of shape 1xKxhxW: rows of the network's input starting at ``top``. They must include
                the source rows of the result; see :func:`restorable_rows`.
            top: First row of the strip.
            first: First row of the result.
            last: End row of the result, exclusive.
        """
        x = strip.float()[..., : self.img_shape[1]]
        if -1 in self.flip_dims:
            x = x.flip(-1)
        lower, upper, weight = self.source_rows(first, last, x.device)
        x = self._resize(x, (x.shape[-2], self.ori_shape[1]))
        x = x[..., lower - top, :].lerp_(x[..., upper - top, :], weight[:, None])
        return x.flip(-2) if -2 in self.flip_dims else x


def restorable_rows(bottom: int, geometry: Geometry) -> int:
    """Return how many rows of the original image can be computed from input rows above ``bottom``."""
    if bottom >= geometry.img_shape[0]:
        return geometry.ori_shape[0]
    _, upper, _ = geometry.source_rows(0, geometry.ori_shape[0], torch.device('cpu'))
    return int((upper < bottom).sum())


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Return start positions of ``crop``-sized windows covering ``length``; the last ends at the border."""
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, length) - crop, 0) for i in range(count)]


def sliding_strips(
    model: Callable[[Tensor], Tensor],
    image: Tensor,
    crop_size: Size,
    stride: Size,
    *,
    align_corners: bool = False,
) -> Iterator[tuple[int, Tensor]]:
    """Yield the averaged logits of overlapping windows, strip by strip from top to bottom.

    A strip is yielded once no further window covers it, so memory holds the sums of one row of windows
    instead of the whole image. Sums are float32, whatever the model returns.

    Args:
        model: Maps images of shape 1xCxHxW to logits of shape 1xKxhxw of any spatial size.
        image: Tensor of shape 1xCxHxW.
        crop_size: Window (height, width), clipped to the size of the image.
        stride: Step (vertical, horizontal), at most ``crop_size``.
        align_corners: Of resizing the logits of a window to its size.

    Yields:
        The first row of a strip and its logits of shape 1xKxrxW. The next iteration overwrites the logits.
        Each strip except the first starts with the last row of the previous strip, which resizing needs to
        interpolate the first rows.

    Raises:
        ValueError: If the stride leaves gaps.
    """
    if any(s > c or s < 1 for s, c in zip(stride, crop_size, strict=True)):
        raise ValueError(f'test_cfg.stride={tuple(stride)} must be from 1 to crop_size={tuple(crop_size)}')
    height, width = image.shape[-2:]
    crop = (min(crop_size[0], height), min(crop_size[1], width))
    tops = window_starts(height, crop[0], stride[0])
    lefts = window_starts(width, crop[1], stride[1])
    rows_covered, columns_covered = (
        _windows_covering(starts, size, length, image.device)
        for starts, size, length in ((tops, crop[0], height), (lefts, crop[1], width))
    )
    strip = None  # row 0: last finished row above; then the rows that windows are added to
    for top, next_top in zip(tops, [*tops[1:], height], strict=True):
        for left in lefts:
            window = image[..., top : top + crop[0], left : left + crop[1]]
            logits = resize(model(window).float(), crop, align_corners=align_corners)
            if strip is None:
                strip = logits.new_zeros(*logits.shape[:2], 1 + crop[0], width)
            strip[..., 1:, left : left + crop[1]] += logits
        assert strip is not None
        done = next_top - top
        strip[..., 1 : 1 + done, :] /= rows_covered[top:next_top, None] * columns_covered
        yield (top - 1, strip[..., : 1 + done, :]) if top else (0, strip[..., 1 : 1 + done, :])
        rest = strip[..., 1 + done :, :].clone()
        strip[..., 0, :] = strip[..., done, :]
        strip[..., 1 : 1 + rest.shape[-2], :] = rest
        strip[..., 1 + rest.shape[-2] :, :] = 0


def _windows_covering(starts: list[int], size: int, length: int, device: torch.device) -> Tensor:
    """Return the number of windows that cover each position, of shape (length,)."""
    counts = torch.zeros(length, device=device)
    for start in starts:
        counts[start : start + size] += 1
    return counts


def _classes_at_a_time(size: Size) -> int:
    return max(1, min(CLASSES_AT_A_TIME, CHUNK_BYTES // (4 * size[0] * size[1])))


def restored(logits: Tensor, restore: Restore, size: Size) -> Tensor:
    """Return ``restore(logits)``, computed a few classes at a time.

    Args:
        logits: Logits of shape 1xKxhxw.
        restore: Function from 1xkxhxw to 1xkxHxW that treats classes independently.
        size: (height, width) of the largest map that ``restore`` creates.
    """
    chunks = logits.split(_classes_at_a_time(size), dim=1)
    first = restore(chunks[0])
    result = first.new_empty(1, logits.shape[1], *first.shape[-2:])
    result[:, : first.shape[1]] = first
    start = first.shape[1]
    for chunk in chunks[1:]:
        result[:, start : start + chunk.shape[1]] = restore(chunk)
        start += chunk.shape[1]
    return result


def label_map(logits: Tensor, restore: Restore, size: Size) -> Tensor:
    """Compute ``restore(logits).argmax(1)`` a few classes at a time.

    Keeps a running maximum, so the restored logits of all classes are never in memory. The arguments are
    those of :func:`restored`, for a batch of any size B.

    Returns:
        Labels of shape BxHxW: uint8 for up to 256 classes, otherwise int64.
    """
    chunks = logits.split(_classes_at_a_time(size), dim=1)
    best, labels = restore(chunks[0]).max(dim=1)
    start = chunks[0].shape[1]
    for chunk in chunks[1:]:
        values, index = restore(chunk).max(dim=1)
        labels = torch.where(values > best, index + start, labels)
        best = torch.maximum(values, best)
        start += chunk.shape[1]
    return labels.to(torch.uint8) if logits.shape[1] <= 256 else labels
