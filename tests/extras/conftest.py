"""A small data set and a small model."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def make_root(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes image and mask of each name, 21x34 of 5 classes, and returns the folder."""

    def make(*names: str) -> Path:
        random = np.random.default_rng(0)
        for name in names:
            image = random.integers(0, 256, (21, 34, 3), dtype=np.uint8)
            labels = random.integers(0, 5, (21, 34), dtype=np.uint8)
            for path, content in ((f'images/{name}.jpg', image), (f'annotations/{name}.png', labels)):
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(tmp_path / path), content)
        return tmp_path

    return make


@pytest.fixture
def model_config() -> dict:
    """A small DPT whose costs can be computed by hand."""
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, size=(64, 64)),
        backbone=dict(
            type='VisionTransformer',
            img_size=64,
            patch_size=16,
            embed_dims=32,
            num_layers=4,
            num_heads=2,
            out_indices=(0, 1, 2, 3),
        ),
        neck=dict(type='DPTNeck', in_channels=32, channels=16, post_process_channels=(4, 8, 12, 16)),
        decode_head=dict(type='DPTHead', in_channels=16, num_classes=5),
    )
