"""Photometric changes on tensors against OpenCV's and against the transform on the CPU."""

import cv2
import numpy as np
import pytest
import torch

from dpt.datasets import PackSegInputs, PhotoMetricDistortion
from dpt.models.device_photometric import bgr_to_hsv, distort, hsv_to_bgr
from dpt.registry import MODELS


def image(seed: int, height: int = 61, width: int = 128) -> np.ndarray:
    """Draw an image with dark, grey and saturated pixels."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (height, width, 3))
    grey = generator.integers(0, 256, (height, width, 1))
    spread = generator.choice([0, 0.02, 0.2, 1], (height, width, 1))
    return (grey + spread * (noise - grey)).astype(np.uint8)


def test_hsv_is_opencvs_to_the_last_bit() -> None:
    pixels = image(0, 500, 700)
    planes = bgr_to_hsv(torch.from_numpy(pixels).permute(2, 0, 1))
    np.testing.assert_array_equal(torch.stack(planes, -1).numpy(), cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV))


def test_bgr_is_opencvs_but_for_the_columns_of_its_scalar_code() -> None:
    hsv = np.random.default_rng(1).integers(0, 256, (500, 704, 3), dtype=np.uint8)
    hsv[..., 0] %= 180
    made = hsv_to_bgr(*torch.from_numpy(hsv).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    difference = np.abs(made.astype(int) - cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_batches_are_distorted_as_the_pipeline_would_have() -> None:
    arguments = dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[1.0] * 3)
    preprocess = MODELS.build(arguments)
    changed = 0
    for seed in range(0, 120, 2):
        packed, expected = [], []
        for one in (seed, seed + 1):
            pixels = image(one)
            np.random.seed(one)
            expected.append(PhotoMetricDistortion()({'img': pixels})['img'].transpose(2, 0, 1))
            np.random.seed(one)
            packed.append(PackSegInputs()(PhotoMetricDistortion(on_device=True)({'img': pixels})))
        batch = {key: [sample[key] for sample in packed] for key in ('inputs', 'data_samples')}
        raw = np.stack(batch['inputs'])
        made = preprocess(batch, training=True)['inputs'].numpy()
        difference = np.abs(made - np.stack(expected))
        assert (difference > 1).mean() < 1e-4  # none, but where OpenCV has other vector code
        assert (difference > 0).mean() < 1e-3
        changed += (made != raw).any()
    assert changed > 50


def test_an_unknown_change_is_an_error() -> None:
    with pytest.raises(ValueError, match="'gamma' is unknown"):
        distort(torch.zeros(3, 2, 2, dtype=torch.uint8), [('gamma', 2.0)])
