"""Check on synthetic images that the transforms of a pipeline move depth together with the image."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dpt.config.parts import Problem

DEPTH = 'gt_depth_map'
NEAR, FAR = 1.25, 2.5
"""Depth outside and inside the rectangle of the image, in the unit of the data set."""
VOID = 255
MAX_SHIFT = 1.0
"""Mean distance in pixels between the edges in image and depth that rounding may cause."""


def has_depth(dataset: Any) -> bool:
    """Return whether a data set has depth in the way of ``BaseDepthDataset``."""
    return hasattr(dataset, 'depth_rescale_factor')


def depth_sample(folder: Path, white: np.ndarray, dataset: Any) -> dict:
    """Write depth with the rectangle; return what the data set would give to the pipeline about it."""
    path = str(folder / 'depth.npy')
    np.save(path, np.where(white, FAR, NEAR) / dataset.depth_rescale_factor)
    return dict(
        depth_map_path=path,
        depth_rescale_factor=dataset.depth_rescale_factor,
        invalid_value=dataset.invalid_value,
    )


def check_depth_step(
    number: int, name: str, before: Mapping, after: Mapping, image: np.ndarray | None
) -> Iterator[Problem]:
    """Check that a transform of a training pipeline leaves image and depth in step.

    Args:
        number: Number of the step.
        name: Class of the transform.
        before: Results before it.
        after: Results after it.
        image: Image after it, of shape HxWxC.
    """
    depth = after.get(DEPTH)
    if depth is None or image is None:
        return
    if VOID in depth:
        yield str(number), f'{name} writes {VOID} into depth: make it fill depth with 0, for no measurement'
    elif not depth.any():
        yield str(number), f'{name} leaves no depth: 0 means that nothing was measured'
    elif not _in_step(image, depth):
        if DEPTH in before:
            what = (
                f'{name} moves the image, but not {DEPTH} with it: use a transform of dpt, or move all maps '
            )
            yield str(number), what + 'in seg_fields, by nearest neighbour'
        else:
            yield (
                str(number),
                f'{name} loads depth after the image was resized, cropped or flipped, so it does not fit it: '
                'put it directly after the transform that loads the image',
            )


def check_packed_depth(number: int, sample: Any, white: np.ndarray, training: bool) -> Iterator[Problem]:
    """Check the depth that a pipeline returns.

    Args:
        number: Number of the last step.
        sample: The packed data sample.
        white: Where the rectangle is in the original image, of shape HxW.
        training: Whether the pipeline is used for training; for testing, depth must stay as it
            is in the file.
    """
    if DEPTH not in sample:
        if training:
            yield (
                str(number),
                'no transform loads depth: put LoadDepthAnnotation after LoadImageFromFile, and '
                'PackSegInputs at the end',
            )
    elif not training:
        depth = sample.get(DEPTH).data[0].numpy()
        if depth.shape != white.shape or ((depth > (NEAR + FAR) / 2) != white).mean() > 0.01:
            yield (
                str(number),
                'depth is resized, cropped or flipped, but predictions are compared at the original size: '
                'put LoadDepthAnnotation after these transforms',
            )


def _in_step(image: np.ndarray, depth: np.ndarray) -> bool:
    """Return whether the rectangle is at the same place in image and depth, as far as depth is known."""
    if image.shape[:2] != depth.shape:
        return False
    grey = image.reshape(*depth.shape, -1).astype(np.float32).mean(axis=2)
    middle = (grey.max() + grey.min()) / 2
    known = depth > 0
    far = depth > (depth[known].min() + depth[known].max()) / 2 if known.any() else known
    if not far.any() or far[known].all() or grey.max() == grey.min():
        return True  # a crop inside or outside the rectangle
    edges = np.count_nonzero(far[1:] != far[:-1]) + np.count_nonzero(far[:, 1:] != far[:, :-1])
    # Movement makes pixels of both kinds differ, a hole that is cut out one kind, an inverted image all.
    wrong = [
        min(np.count_nonzero(bright & ~far & known), np.count_nonzero(~bright & far & known))
        for bright in (grey > middle, grey < middle)
    ]
    return bool(min(wrong) <= MAX_SHIFT * edges)
