"""Draw label maps as arrays: overlays, errors, legends, and titled panels side by side.

Pictures are RGB, uint8, of shape HxWx3; label maps are integers of shape HxW. Pixels with a label that is not
a class, such as 255, are unlabelled.
"""

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

WHITE, INK = (255, 255, 255), (32, 32, 32)
ERROR_COLOUR = (235, 45, 45)
FONT = cv2.FONT_HERSHEY_SIMPLEX
MIN_PANEL_WIDTH = 320
"""Narrower images are enlarged so that titles and legend fit."""


def present_classes(num_classes: int, *label_maps: np.ndarray) -> list[int]:
    """Return the classes that occur in any of the maps, in ascending order."""
    found = {int(label) for labels in label_maps for label in np.unique(labels)}
    return sorted(label for label in found if 0 <= label < num_classes)


def draw_overlay(image: np.ndarray, labels: np.ndarray, palette: np.ndarray, alpha: float) -> np.ndarray:
    """Blend class colours over an image: ``(1 - alpha) * image + alpha * colour``.

    Args:
        image: Picture of shape HxWx3.
        labels: Label map of shape HxW; unlabelled pixels are blended with black.
        palette: uint8 colours of shape Kx3.
        alpha: Between 0 (only the image) and 1 (only the colours).
    """
    check_size(image, labels)
    num_classes = len(palette)
    colours = np.vstack([palette, np.zeros((1, 3))]).astype(np.uint8)
    labelled = _labelled(labels, num_classes)
    mask = colours[np.where(labelled, labels, num_classes)]
    return cv2.addWeighted(image, 1 - alpha, mask, alpha, 0)


def draw_errors(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray, num_classes: int
) -> tuple[np.ndarray, float]:
    """Draw wrong pixels in red on a dimmed grey image, and unlabelled pixels dark and hatched.

    Returns:
        The picture, and the share of wrong labelled pixels (NaN if no pixel is labelled).
    """
    check_size(image, prediction)
    check_size(image, truth)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    picture = cv2.cvtColor((0.3 * grey + 50).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    labelled = _labelled(truth, num_classes)
    wrong = labelled & (prediction != truth)
    picture[wrong] = ERROR_COLOUR
    height, width = truth.shape
    period = max(width // 60, 4)
    stripe = (np.arange(height)[:, None] + np.arange(width)) % period < period // 4
    picture[~labelled] = 12
    picture[~labelled & stripe] = 60
    count = int(labelled.sum())
    return picture, int(wrong.sum()) / count if count else float('nan')


def _labelled(labels: np.ndarray, num_classes: int) -> np.ndarray:
    return (labels >= 0) & (labels < num_classes)


def check_size(image: np.ndarray, values: np.ndarray, what: str = 'labels') -> None:
    """Raise ValueError unless the picture is RGB and the labels or depth have its size."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'the image must be RGB, uint8, HxWx3, not {image.dtype} of shape {image.shape}')
    if values.shape != image.shape[:2]:
        raise ValueError(
            f'{what} of size {values.shape} do not match an image of size {image.shape[:2]} (height, width): '
            f'load annotations after resizing, so that they keep the size of the original image'
        )


def draw_legend(names: Sequence[str], colours: np.ndarray, width: int, text_height: int) -> np.ndarray:
    """Draw a swatch and a name for each class, in as many columns as fit.

    Args:
        names: N names.
        colours: uint8 colours of shape Nx3.
        width: Width of the picture in pixels.
        text_height: Height of a capital letter in pixels.
    """
    swatch, gap = round(1.5 * text_height), round(0.7 * text_height)
    row_height = round(2.4 * text_height)
    widest = max((text_width(name, text_height) for name in names), default=0)
    cell = min(swatch + widest + 3 * gap, width - gap)
    columns = max((width - gap) // max(cell, 1), 1)
    rows = -(-len(names) // columns)
    legend = np.full((rows * row_height + gap if rows else 0, width, 3), WHITE, np.uint8)
    for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
        left = gap + i % columns * cell
        top = i // columns * row_height + (row_height - swatch) // 2
        cv2.rectangle(legend, (left, top), (left + swatch, top + swatch), [int(c) for c in colour], -1)
        cv2.rectangle(legend, (left, top), (left + swatch, top + swatch), INK, 1)
        baseline = i // columns * row_height + (row_height + text_height) // 2
        write_text(legend, name, left + swatch + gap, baseline, text_height, cell - swatch - 2 * gap)
    return legend


class Drawable(Protocol):
    """What can stand below the panels, such as a :class:`~dpt.visualization.depth.ColourBar`."""

    def draw(self, width: int, text_height: int) -> np.ndarray:
        """Return a picture of a width in pixels, with capital letters of a height."""
        ...


def compose(
    panels: Sequence[tuple[str, np.ndarray]],
    names: Sequence[str] = (),
    colours: np.ndarray | Sequence = (),
    *,
    bars: Sequence[Drawable] = (),
) -> np.ndarray:
    """Draw titled panels side by side, with a legend and scale bars below.

    Panels narrower than :data:`MIN_PANEL_WIDTH` are enlarged by an integer factor.

    Args:
        panels: Titles and pictures, all of the same size.
        names: N names in the legend.
        colours: uint8 colours of shape Nx3.
        bars: Scale bars.
    """
    factor = -(-MIN_PANEL_WIDTH // panels[0][1].shape[1])
    height, width = (factor * length for length in panels[0][1].shape[:2])
    text_height = _text_height_over(width)
    bar, gap = round(2.4 * text_height), max(width // 60, 6)
    total = len(panels) * (width + gap) + gap
    sheet = np.full((bar + height, total, 3), WHITE, np.uint8)
    for i, (title, picture) in enumerate(panels):
        left = gap + i * (width + gap)
        enlarged = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
        sheet[bar:, left : left + width] = enlarged
        write_text(sheet, title, left, (bar + text_height) // 2, text_height, width)
    margin = np.full((gap, total, 3), WHITE, np.uint8)
    return np.concatenate([sheet, margin, *_below(names, colours, bars, total, text_height)])


def _below(
    names: Sequence[str],
    colours: np.ndarray | Sequence,
    bars: Sequence[Drawable],
    width: int,
    text_height: int,
) -> list[np.ndarray]:
    legend = draw_legend(names, np.asarray(colours), width, text_height)
    return [legend, *(bar.draw(width, text_height) for bar in bars)]


def contact_sheet(
    panels: Sequence[tuple[str, np.ndarray]],
    columns: int,
    names: Sequence[str] = (),
    colours: np.ndarray | Sequence = (),
    *,
    bars: Sequence[Drawable] = (),
) -> np.ndarray:
    """Draw titled panels in rows, with one legend and scale bars below.

    Args:
        panels: Titles and pictures of any size; smaller ones are padded with white.
        columns: Number of panels per row.
        names: N names in the legend.
        colours: uint8 colours of shape Nx3.
        bars: Scale bars.
    """
    height, width = (max(picture.shape[i] for _, picture in panels) for i in (0, 1))
    framed = [(title, _on_white(picture, height, width)) for title, picture in panels]
    if len(framed) > columns:
        blank = np.full((height, width, 3), WHITE, np.uint8)
        framed += [('', blank)] * (-len(framed) % columns)
    rows = [compose(framed[i : i + columns]) for i in range(0, len(framed), columns)]
    text_height = _text_height_over(width * -(-MIN_PANEL_WIDTH // width))
    below = _below(names, colours, bars, rows[0].shape[1], text_height)
    return np.concatenate([*rows, *below])


def _on_white(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    white = np.full((height, width, 3), WHITE, np.uint8)
    white[: picture.shape[0], : picture.shape[1]] = picture
    return white


def _text_height_over(width: int) -> int:
    return max(round(width / 34), 12)


def _font(text_height: int) -> tuple[float, int]:
    """Return the scale and thickness of the font for a capital letter height in pixels."""
    (_, height), _ = cv2.getTextSize('X', FONT, 1, 1)
    return text_height / height, max(round(text_height / 12), 1)


def text_width(text: str, text_height: int) -> int:
    (width, _), _ = cv2.getTextSize(text, FONT, *_font(text_height))
    return width


def write_text(
    picture: np.ndarray, text: str, left: int, baseline: int, text_height: int, width: int
) -> None:
    """Write one line in place, truncated to ``width`` pixels."""
    shown = text
    while shown and text_width(shown, text_height) > width:
        text = text[:-1]
        shown = text + '...' if text else ''
    scale, thickness = _font(text_height)
    cv2.putText(picture, shown, (left, baseline), FONT, scale, INK, thickness, cv2.LINE_AA)
