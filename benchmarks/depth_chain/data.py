"""Transforms of depth pipelines against the code of the original repositories."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmcv
import numpy as np

from depth_chain.table import Row, definitions, rows_of_clones
from dpt.registry import TRANSFORMS

SIZES = ((480, 640), (375, 1242), (500, 333), (1242, 375))
ROUNDING = 0.51
"""In grey levels: ``ColorAug`` rounds to whole ones."""


def sample(size: tuple[int, int]) -> dict:
    """Return a random image and depth."""
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
    depth = draw.uniform(0, 10, size).astype(np.float32)
    return dict(img=image, gt_depth_map=depth, seg_fields=['gt_depth_map'], ori_shape=size, img_shape=size)


def run(step: dict, given: dict) -> dict:
    """Apply a transform of dpt."""
    return TRANSFORMS.build(step)(given)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference; infinite if the shapes differ."""
    if one.shape != other.shape:
        return float('inf')
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())


def toolbox(folder: Path) -> list[Row]:
    """Crops, rotation and colours of the Monocular-Depth-Estimation-Toolbox."""
    path = folder / 'depth' / 'datasets' / 'pipelines' / 'transforms.py'
    theirs = definitions(path, ('NYUCrop', 'KBCrop', 'RandomRotate', 'ColorAug'), np=np, mmcv=mmcv)
    colours = dict(prob=1.0, gamma_range=[0.9, 1.1], brightness_range=[0.75, 1.25], color_range=[0.9, 1.1])
    cases: tuple[tuple[dict, Any, tuple[int, int], float], ...] = (
        (dict(type='NYUCrop'), theirs['NYUCrop'](depth=True), (480, 640), 0),
        (dict(type='KBCrop'), theirs['KBCrop'](depth=True), (375, 1242), 0),
        (
            dict(type='RandomRotate', prob=1.0, degree=2.5),
            theirs['RandomRotate'](prob=1.0, degree=2.5),
            (427, 565),
            0,
        ),
        (dict(type='ColorAug', **colours), theirs['ColorAug'](**colours), (97, 131), ROUNDING),
    )
    rows = []
    for step, other, size, limit in cases:
        given = sample(size)
        reference = dict(img=given['img'], depth_gt=given['gt_depth_map'], img_shape=size)
        np.random.seed(1)
        reference = other(dict(reference, depth_fields=['depth_gt']))
        np.random.seed(1)
        found = run(step, given)
        worst = max(
            difference(found['img'], reference['img']),
            difference(found['gt_depth_map'], reference['depth_gt']),
        )
        rows.append(Row(f'{step["type"]} of the toolbox: image and depth', worst, limit))
    return rows


def depth_anything(folder: Path) -> list[Row]:
    """Resizing of Depth Anything V2 (and MiDaS), on images from 0 to 1."""
    resize = runpy.run_path(str(folder / 'metric_depth' / 'dataset' / 'transform.py'))['Resize']
    rows = []
    for method in ('lower_bound', 'upper_bound', 'minimal'):
        worst = 0.0
        for size in SIZES:
            given = sample(size)
            image = given['img'].astype(np.float32) / 255
            other = resize(
                width=518,
                height=518,
                resize_target=True,
                keep_aspect_ratio=True,
                ensure_multiple_of=14,
                resize_method=method,
                image_interpolation_method=2,  # cv2.INTER_CUBIC
            )
            reference = other(dict(image=image, depth=given['gt_depth_map']))
            step = dict(type='ResizeToBound', scale=518, method=method, size_divisor=14)
            found = run(step, dict(given, img=image))
            worst = max(
                worst,
                difference(found['img'], reference['image']),
                difference(found['gt_depth_map'], reference['depth']),
            )
        rows.append(Row(f'Resize of Depth Anything V2, {method}: image and depth', worst, 1e-6))
    return rows


SOURCES: dict[str, Callable[[Path], list[Row]]] = {'toolbox': toolbox, 'depth-anything-v2': depth_anything}


def rows() -> list[Row]:
    """Compare with the repositories that are there."""
    return rows_of_clones('transforms', SOURCES, 0)
