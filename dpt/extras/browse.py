"""Draw samples as the network sees them, after augmentation and preprocessing."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from dpt.palette import default_palette
from dpt.structures import IGNORE_INDEX
from dpt.visualization.overlay import contact_sheet, draw_overlay, present_classes

ALPHA = 0.5
"""Weight of the colours over the image."""
COLUMNS = 4
"""Panels per row: two samples, each next to its labels."""


def seen(preprocessor: nn.Module, sample: dict, training: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Preprocess a sample, then undo the normalisation.

    Args:
        preprocessor: ``data_preprocessor`` of the model.
        sample: ``inputs``, uint8 of shape CxHxW, and ``data_samples``, from the pipeline.
        training: Whether to pad as in training.

    Returns:
        The picture, uint8 of shape HxWx3, whose red, green and blue are the three input channels of the
        network in this order; and the labels resized to the picture, of shape HxW, or None.

    Raises:
        ValueError: If the image does not have three channels.
    """
    data = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    batch = preprocessor(data, training=training)
    picture, data_sample = restore(preprocessor, batch['inputs'][0]), batch['data_samples'][0]
    if 'gt_sem_seg' not in data_sample:
        return picture, None
    labels = data_sample.gt_sem_seg.data.cpu().numpy()[0].astype(np.int32)
    if labels.shape != picture.shape[:2]:  # in a test, labels keep their original size
        height, width = data_sample.img_shape[:2]
        padded = np.full(picture.shape[:2], IGNORE_INDEX, np.int32)
        padded[:height, :width] = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        labels = padded
    return picture, labels


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
) -> np.ndarray:
    """Draw a contact sheet of samples, each next to its labels, above one legend.

    Args:
        samples: ``inputs`` and ``data_samples`` of each sample, from the pipeline.
        preprocessor: ``data_preprocessor`` of the model.
        classes: Names of the K classes.
        palette: K colours (red, green, blue); None for default colours.
        training: Whether to pad as in training.

    Returns:
        RGB picture, uint8.
    """
    colours = default_palette(len(classes)) if palette is None else np.asarray(palette, np.uint8)
    panels, maps = [], []
    for sample in samples:
        picture, labels = seen(preprocessor, sample, training)
        path = sample['data_samples'].metainfo.get('img_path')
        panels.append((Path(path).name if path else '', picture))
        size = f'{picture.shape[0]}x{picture.shape[1]}'
        if labels is None:
            panels.append((f'{size}, no labels', picture))
            continue
        maps.append(labels)
        unlabelled = 100 * np.mean((labels < 0) | (labels >= len(classes)))
        title = f'{size}, {unlabelled:.1f} % unlabelled' if unlabelled else size
        panels.append((title, draw_overlay(picture, labels, colours, ALPHA)))
    if not panels:
        raise ValueError('the data set has no samples to show')
    present = present_classes(len(classes), *maps)
    return contact_sheet(panels, COLUMNS, [classes[k] for k in present], colours[present])
