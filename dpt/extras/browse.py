"""What the network really sees: samples after augmentation and preprocessing, back in grey levels."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from dpt.structures import IGNORE_INDEX, SegDataSample

from .overlay import contact_sheet, default_palette, draw_overlay, present_classes


def seen(preprocessor: nn.Module, sample: dict, training: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Pass a sample through the preprocessor and undo its normalisation alone.

    Args:
        preprocessor: What the config's ``model.data_preprocessor`` builds.
        sample: What the pipeline returns: ``inputs``, uint8 of shape CxHxW, and ``data_samples``.
        training: Whether it is padded as in training.

    Returns:
        The picture, uint8 of shape HxWx3, whose red, green and blue are the channels in the order that the
        network gets them, and its labels, of shape HxW; None where the sample has none.

    Raises:
        ValueError: If the image has not three channels.
    """
    batch = preprocessor(
        dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]), training=training
    )
    picture = restore(preprocessor, batch['inputs'][0])
    return picture, _labels(batch['data_samples'][0], picture.shape[:2])


def restore(preprocessor: Any, image: Tensor) -> np.ndarray:
    """Undo the normalisation of an image of shape 3xHxW, as :func:`seen` does, and return the picture."""
    if image.shape[0] != 3:
        raise ValueError(f'images of 3 channels can be shown, and the network is given {image.shape[0]}')
    grey_levels = image * preprocessor.std + preprocessor.mean
    picture = grey_levels.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(picture)


def _labels(sample: SegDataSample, size: tuple[int, int]) -> np.ndarray | None:
    """Labels on the grid of the padded image; for testing they are kept at the size of the original."""
    if 'gt_sem_seg' not in sample:
        return None
    data: Tensor = sample.gt_sem_seg.data
    labels = data.cpu().numpy()[0].astype(np.int32)
    if labels.shape == size:
        return labels
    height, width = sample.img_shape[:2]
    padded = np.full(size, IGNORE_INDEX, np.int32)
    padded[:height, :width] = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return padded


@torch.no_grad()
def browse(
    samples: Iterable[dict],
    preprocessor: nn.Module,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    *,
    training: bool,
    alpha: float = 0.5,
    pairs_per_row: int = 2,
) -> np.ndarray:
    """Draw a contact sheet: each sample as the network gets it, with its labels beside, over one legend.

    Args:
        samples: What the pipeline returns.
        preprocessor: What the config's ``model.data_preprocessor`` builds.
        classes: Names of the K classes.
        palette: K colours, each of red, green and blue; None for some.
        training: Whether samples are padded as in training.
        alpha: Weight of the colours over the image, between 0 and 1.
        pairs_per_row: Samples side by side.

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
        panels.append((title, draw_overlay(picture, labels, colours, alpha)))
    if not panels:
        raise ValueError('the data set holds no samples to show')
    present = present_classes(len(classes), *maps)
    return contact_sheet(panels, 2 * pairs_per_row, [classes[k] for k in present], colours[present])
