"""Normalising, padding and stacking."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from dpt.registry import MODELS
from dpt.structures import SegDataSample

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def build(**arguments) -> torch.nn.Module:
    return MODELS.build(dict(type='SegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True, **arguments))


def batch(*sizes: tuple[int, int]) -> dict:
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for size in sizes:
        inputs.append(torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator))
        sample = SegDataSample(gt_sem_seg=PixelData(data=torch.ones(1, *size, dtype=torch.uint8)))
        sample.set_metainfo(dict(img_path='a.jpg', ori_shape=size, img_shape=size))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def test_images_are_normalised_in_rgb_then_padded_with_zeros() -> None:
    data = batch((5, 7))
    bgr = data['inputs'][0].numpy().astype(np.float64)
    out = build(size=(8, 8))(data, training=True)['inputs'][0].numpy()
    expected = (bgr[::-1] - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    np.testing.assert_allclose(out[:, :5, :7], expected, rtol=1e-5, atol=1e-5)
    assert (out[:, 5:] == 0).all()
    assert (out[:, :, 7:] == 0).all()


def test_padding_ignores_labels_and_stacks_sizes() -> None:
    out = build(size_divisor=8)(batch((5, 7), (9, 3)), training=True)
    assert out['inputs'].shape == (2, 3, 16, 8)
    for sample, size in zip(out['data_samples'], [(5, 7), (9, 3)], strict=True):
        label = sample.gt_sem_seg.data[0]
        assert label.shape == (16, 8)
        assert (label[: size[0], : size[1]] == 1).all()
        assert int((label == 255).sum()) == 16 * 8 - size[0] * size[1]
        assert sample.img_shape == size
        assert sample.pad_shape == (16, 8)


@pytest.mark.parametrize('void', [3, 255, 65535])
def test_padding_takes_the_void_label_of_the_sample(void: int) -> None:
    data = batch((5, 7))
    data['data_samples'][0].set_metainfo(dict(ignore_index=void))
    label = build(size=(8, 8))(data, training=True)['data_samples'][0].gt_sem_seg.data[0]
    assert set(label[5:].unique().tolist()) == {void}
    assert (label[:5, :7] == 1).all()


def test_testing_pads_by_its_own_rule_and_leaves_labels_alone() -> None:
    data = batch((33, 40))
    out = build(size=(8, 8), test_cfg=dict(size_divisor=32))(data, training=False)
    assert out['inputs'].shape[-2:] == (64, 64)
    assert out['data_samples'][0].gt_sem_seg.data.shape == (1, 33, 40)


def test_without_test_cfg_the_published_protocol_keeps_the_size() -> None:
    assert build(size=(8, 8))(batch((33, 41)), training=False)['inputs'].shape[-2:] == (33, 41)


def test_image_larger_than_training_size_raises() -> None:
    with pytest.raises(ValueError, match='larger than data_preprocessor.size'):
        build(size=(8, 8))(batch((9, 8)), training=True)


def test_label_of_another_size_names_image() -> None:
    data = batch((8, 8))
    data['data_samples'][0].gt_sem_seg = PixelData(data=torch.zeros(1, 4, 8))
    with pytest.raises(ValueError, match='a.jpg'):
        build(size=(8, 8))(data, training=True)


def test_wrong_arguments_raise() -> None:
    with pytest.raises(ValueError, match='not both'):
        build(size=(8, 8), size_divisor=4)
    with pytest.raises(ValueError, match='test_cfg takes size or size_divisor, not both'):
        build(test_cfg=dict(size=(8, 8), size_divisor=2))
    with pytest.raises(ValueError, match='unknown keys'):
        build(test_cfg=dict(divisor=32))
    with pytest.raises(TypeError):
        build(sizes=(8, 8))
