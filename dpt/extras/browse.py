"""Draw samples as the network sees them, after augmentation and preprocessing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from dpt.palette import default_palette
from dpt.structures import IGNORE_INDEX, SegDataSample
from dpt.visualization.depth import DepthScale, measured
from dpt.visualization.overlay import contact_sheet, draw_overlay, present_classes

ALPHA = 0.5
"""Weight of the colours over the image."""
COLUMNS = 4
"""Panels per row: two samples, each next to its labels or depth."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A sample as the network receives it.

    Attributes:
        picture: uint8 of shape HxWx3, whose red, green and blue are the three input channels of the network
            in this order.
        labels: Labels of shape HxW, or None.
        depth: Depth of shape HxW, or None.
    """

    picture: np.ndarray
    labels: np.ndarray | None = None
    depth: np.ndarray | None = None


def seen(preprocessor: nn.Module, sample: dict, training: bool) -> Seen:
    """Preprocess a sample, then undo the normalisation.

    Args:
        preprocessor: ``data_preprocessor`` of the model.
        sample: ``inputs``, uint8 of shape CxHxW, and ``data_samples``, from the pipeline.
        training: Whether to pad as in training.

    Returns:
        The picture, and labels and depth resized to it.

    Raises:
        ValueError: If the image does not have three channels.
    """
    data = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    batch = preprocessor(data, training=training)
    picture, data_sample = restore(preprocessor, batch['inputs'][0]), batch['data_samples'][0]
    size = picture.shape[:2]
    return Seen(
        picture,
        _map_of(data_sample, 'gt_sem_seg', np.int32, IGNORE_INDEX, size),
        _map_of(data_sample, 'gt_depth_map', np.float32, 0, size),
    )


def _map_of(
    sample: SegDataSample, name: str, dtype: type, fill: int, size: tuple[int, int]
) -> np.ndarray | None:
    """Return labels or depth at the size of the picture, or None."""
    if name not in sample:
        return None
    pixels = sample.get(name).data.cpu().numpy()[0].astype(dtype)
    if pixels.shape == size:
        return pixels
    padded: np.ndarray = np.full(size, fill, dtype)  # in a test, maps keep their original size
    height, width = sample.img_shape[:2]
    padded[:height, :width] = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)
    return padded


def restore(preprocessor: Any, image: Tensor) -> np.ndarray:
    """Undo the normalisation of an image of shape 3xHxW; return a picture as :func:`seen` does."""
    if image.shape[0] != 3:
        raise ValueError(f'only images with 3 channels can be shown, but the network has {image.shape[0]}')
    grey_levels = image * preprocessor.std + preprocessor.mean
    picture = grey_levels.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(picture)


@torch.no_grad()
def browse(
    samples: Iterable[dict],
    preprocessor: nn.Module,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    *,
    training: bool,
    unit: str = 'm',
) -> np.ndarray:
    """Draw a contact sheet of samples, each next to its labels or depth, above one legend or scale bar.

    Args:
        samples: ``inputs`` and ``data_samples`` of each sample, from the pipeline.
        preprocessor: ``data_preprocessor`` of the model.
        classes: Names of the K classes.
        palette: K colours (red, green, blue); None for default colours.
        training: Whether to pad as in training.
        unit: Unit of depth; an empty text if it is unknown.

    Returns:
        RGB picture, uint8.
    """
    colours = default_palette(len(classes)) if palette is None else np.asarray(palette, np.uint8)
    samples = list(samples)
    names = [one['data_samples'].metainfo.get('img_path') for one in samples]
    shown = [seen(preprocessor, one, training) for one in samples]
    if not shown:
        raise ValueError('the data set has no samples to show')
    maps = [one.labels for one in shown if one.labels is not None]
    depths = [one.depth for one in shown if one.depth is not None]
    scale = DepthScale.of(*depths, unit=unit) if depths else None
    panels = []
    for path, one in zip(names, shown, strict=True):
        panels.append((Path(path).name if path else '', one.picture))
        size = f'{one.picture.shape[0]}x{one.picture.shape[1]}'
        if one.labels is not None:
            unlabelled = 100 * np.mean((one.labels < 0) | (one.labels >= len(classes)))
            title = f'{size}, {unlabelled:.1f} % unlabelled' if unlabelled else size
            panels.append((title, draw_overlay(one.picture, one.labels, colours, ALPHA)))
        elif one.depth is None or scale is None:
            panels.append((f'{size}, no labels', one.picture))
        if one.depth is not None and scale is not None:
            absent = 100 * (1 - np.mean(measured(one.depth)))
            title = f'{size}, {absent:.1f} % not measured' if absent else size
            panels.append((title, scale.draw(one.depth)))
    present = present_classes(len(classes), *maps)
    bars = [] if scale is None else [scale.bar()]
    return contact_sheet(panels, COLUMNS, [classes[k] for k in present], colours[present], bars=bars)
