"""Draw depth and its errors as colours, with scale bars.

Depth maps are floats of shape HxW; 0, negative, NaN and infinite pixels count as not measured and are drawn
dark. Pictures are RGB, uint8, of shape HxWx3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dpt.visualization.overlay import INK, WHITE, text_width, write_text

UNMEASURED = 24
"""Grey level of pixels without depth."""
PERCENTILES = (1, 99)
"""Range of the values that get different colours; single pixels beyond it would leave few for the rest."""
BLOCK = 3
"""Side of the blocks that stand for the pixels of sparse depth."""
SPARSE = 0.3
"""Share of measured pixels below which each is drawn as a block, such as the points of a laser scanner."""
LARGEST_RATIO = 1.25
"""Ratio of predicted and true depth with the strongest colour: that of the score d1."""
FEW, MANY = (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)
"""Ticks, times powers of 10, of ranges whose ends differ by a factor above and below 20."""
NEAR_TO_FAR = cv2.applyColorMap(np.arange(255, -1, -1, dtype=np.uint8)[None], cv2.COLORMAP_TURBO)[0, :, ::-1]
_ENDS = ((33, 102, 172), (247, 247, 247), (178, 24, 43))
NEARER_TO_FARTHER = np.stack(
    [np.interp(np.arange(256), (0, 127.5, 255), channel) for channel in zip(*_ENDS, strict=True)], axis=1
).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class ColourBar:
    """A bar of colours with a scale.

    Attributes:
        colours: uint8 colours of shape Nx3, from left to right.
        ticks: Positions between 0 and 1, with labels.
        left: Word at the left end.
        right: Word at the right end.
    """

    colours: np.ndarray
    ticks: Sequence[tuple[float, str]]
    left: str
    right: str

    def draw(self, width: int, text_height: int) -> np.ndarray:
        """Return the picture of the bar, of a width in pixels and with capital letters of a height."""
        gap, thick = round(0.7 * text_height), round(1.4 * text_height)
        height = thick + (3 * text_height if self.ticks else 0) + gap
        picture = np.full((height, width, 3), WHITE, np.uint8)
        start = 2 * gap + text_width(self.left, text_height)
        length = min(width - start - 3 * gap - text_width(self.right, text_height), 40 * text_height)
        length = max(length, 2)
        baseline = (thick + text_height) // 2
        write_text(picture, self.left, gap, baseline, text_height, width)
        write_text(picture, self.right, start + length + gap, baseline, text_height, width)
        places = np.linspace(0, len(self.colours) - 1, length).round().astype(int)
        picture[:thick, start : start + length] = self.colours[places]
        cv2.rectangle(picture, (start, 0), (start + length, thick), INK, 1)
        taken: list[tuple[int, int]] = []
        for position, label in sorted(self.ticks, key=lambda tick: (0 < tick[0] < 1, tick[0])):  # ends first
            x, half = start + round(position * (length - 1)), text_width(label, text_height) // 2 + gap // 2
            if any(x - half < right and left < x + half for left, right in taken):
                continue
            taken.append((x - half, x + half))
            cv2.line(picture, (x, thick), (x, thick + text_height // 2), INK, 1)
            left = max(x - text_width(label, text_height) // 2, 0)
            write_text(picture, label, left, thick + round(1.9 * text_height), text_height, width)
        return picture


@dataclass(frozen=True)
class DepthScale:
    """Colours of depth from near (red) to far (blue).

    Equal steps of colour are equal ratios of depth, so that near and far objects differ alike. For relative
    predictions they are equal steps of inverse depth, and the scale has no numbers.

    Attributes:
        near: Depth with the first colour, or inverse depth if ``relative``.
        far: The same for the last colour.
        relative: Whether values are inverse depth up to an unknown scale and shift.
        unit: Unit of depth; an empty text if it is unknown.
    """

    near: float
    far: float
    relative: bool = False
    unit: str = 'm'

    @classmethod
    def of(cls, *maps: np.ndarray, relative: bool = False, unit: str = 'm') -> 'DepthScale':
        """Return the scale for the range of the measured pixels of some maps."""
        values = np.concatenate([depth[measured(depth, relative)] for depth in maps])
        low, high = np.percentile(values, PERCENTILES).tolist() if values.size else (1.0, 2.0)
        if high <= low:
            low, high = (low - 0.5, low + 0.5) if relative else (low / 1.05, low * 1.05)
        return cls(high, low, True, unit) if relative else cls(low, high, False, unit)

    def draw(self, depth: np.ndarray) -> np.ndarray:
        """Return a map as a picture."""
        known = measured(depth, self.relative)
        values = np.where(known, depth, self.near).astype(np.float64)
        ends = np.array([self.near, self.far], np.float64)
        if not self.relative:
            values, ends = np.log(values), np.log(ends)
        place = np.rint(255 * (values - ends[0]) / (ends[1] - ends[0])).clip(0, 255).astype(int)
        return _on_dark(NEAR_TO_FAR[place], known)

    def bar(self) -> ColourBar:
        """Return the scale bar."""
        ticks = [] if self.relative else [(self._position(one), self._label(one)) for one in self._ticks()]
        return ColourBar(NEAR_TO_FAR, ticks, 'near', 'far')

    def _ticks(self) -> list[float]:
        """Return the ends and some round numbers between them that leave room for the labels."""
        ratio = self.far / self.near
        step = 10.0 ** np.floor(np.log10((self.far - self.near) / 2))  # for less than a doubling
        if ratio < 2:
            round_ones = step * np.arange(np.ceil(self.near / step), self.far / step)
        else:
            powers = 10.0 ** np.arange(-4, 7)
            round_ones = np.outer(powers, FEW if ratio > 20 else MANY).ravel()
        inside = round_ones[(round_ones > self.near * ratio**0.1) & (round_ones < self.far / ratio**0.1)]
        return [self.near, *inside.tolist(), self.far]

    def _position(self, depth: float) -> float:
        return 1.0 if depth == self.far else float(np.log(depth / self.near) / np.log(self.far / self.near))

    def _label(self, depth: float) -> str:
        digits = 2 + max(int(np.ceil(np.log10(self.far / (self.far - self.near)))), 0)
        return f'{float(f"{depth:.{digits}g}"):g} {self.unit}'.rstrip()


def measured(depth: np.ndarray, relative: bool = False) -> np.ndarray:
    """Return which pixels of a map have a value; 0 is a value of inverse depth (very far)."""
    return np.isfinite(depth) & (depth >= 0 if relative else depth > 0)


def aligned(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the depth of relative predictions after fitting scale and shift of the inverse depth.

    Pixels that are infinitely far after the fit are infinite.
    """
    known = measured(truth) & measured(prediction, relative=True)
    x, y = prediction[known].astype(np.float64), 1 / truth[known].astype(np.float64)
    columns = np.stack([x, np.ones_like(x)], axis=1)
    scale, shift = np.linalg.lstsq(columns, y, rcond=None)[0] if x.size else (1.0, 0.0)
    inverse = scale * prediction.astype(np.float64) + shift
    return np.where(inverse > 0, 1 / np.where(inverse > 0, inverse, 1), np.inf)


def thickened(depth: np.ndarray) -> np.ndarray:
    """Return a sparse map whose measurements are blocks of pixels, of which the nearest wins."""
    known = measured(depth)
    if known.mean() >= SPARSE:
        return depth
    inverse = np.where(known, 1 / np.where(known, depth, 1), 0).astype(np.float32)
    grown = cv2.dilate(inverse, np.ones((BLOCK, BLOCK), np.uint8))
    return np.where(grown > 0, 1 / np.where(grown > 0, grown, 1), 0)


def draw_depth_errors(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """Draw where the prediction is too near (blue) or too far (red), by the ratio to the truth.

    Returns:
        The picture, and the mean relative error (NaN if no pixel is measured).
    """
    known = measured(truth) & ~np.isnan(prediction)
    error = np.abs(prediction[known] - truth[known]) / truth[known]
    grown = thickened(truth)
    shown = measured(grown) & ~np.isnan(prediction)
    ratio = np.where(shown, prediction, 1) / np.where(shown, grown, 1)
    logs = np.log(ratio.clip(1e-3, 1e3)) / np.log(LARGEST_RATIO)
    place = np.rint(127.5 * (1 + logs)).clip(0, 255).astype(int)
    return _on_dark(NEARER_TO_FARTHER[place], shown), float(error.mean()) if error.size else float('nan')


def error_bar() -> ColourBar:
    """Return the scale bar of :func:`draw_depth_errors`."""
    ends = (f'{100 / LARGEST_RATIO - 100:+.0f} %', '0', f'{100 * LARGEST_RATIO - 100:+.0f} %')
    return ColourBar(NEARER_TO_FARTHER, list(zip((0.0, 0.5, 1.0), ends, strict=True)), 'too near', 'too far')


def _on_dark(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.where(known[..., None], picture, UNMEASURED).astype(np.uint8)
