"""Normalising, padding and stacking."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from tiny_models import image, sample

from dpt.registry import MODELS

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def build(**arguments) -> torch.nn.Module:
    return MODELS.build(dict(type='SegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True, **arguments))


def batch(*sizes: tuple[int, int]) -> dict:
    return dict(inputs=[image(size) for size in sizes], data_samples=[sample(size) for size in sizes])


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
    for padded, size in zip(out['data_samples'], [(5, 7), (9, 3)], strict=True):
        label = padded.gt_sem_seg.data[0]
        assert label.shape == (16, 8)
        assert (label[: size[0], : size[1]] == 0).all()
        assert int((label == 255).sum()) == 16 * 8 - size[0] * size[1]
        assert padded.img_shape == size
        assert padded.pad_shape == (16, 8)


def test_an_image_is_the_same_alone_and_among_smaller_ones() -> None:
    data = batch((8, 8), (5, 7), (8, 3))
    kept = [sample.gt_sem_seg.data for sample in data['data_samples']]
    preprocessor = build(size=(8, 8), pad_val=0.5)
    together = preprocessor(data, training=True)
    for i, label in enumerate(kept):
        one = dict(inputs=data['inputs'][i : i + 1], data_samples=data['data_samples'][i : i + 1])
        alone = preprocessor(one, training=True)
        assert torch.equal(together['inputs'][i], alone['inputs'][0])
        height, width = label.shape[-2:]
        assert (together['inputs'][i, :, height:] == 0.5).all()
        assert (together['inputs'][i, :, :, width:] == 0.5).all()
        assert data['data_samples'][i].gt_sem_seg.data is label  # the batch stays as it was


def test_gradients_reach_the_images() -> None:
    images = [torch.rand(3, *size, requires_grad=True) for size in ((8, 8), (5, 7))]
    build(size=(8, 8))(dict(inputs=images), training=True)['inputs'].sum().backward()
    scale = (1 / torch.tensor(STD)).flip(0).view(3, 1, 1)
    assert all(torch.allclose(one.grad, scale.expand_as(one)) for one in images)


@pytest.mark.parametrize('void', [-100, 3, 255, 65535])
def test_padding_takes_the_void_label_of_the_sample(void: int) -> None:
    data = batch((5, 7))
    data['data_samples'][0].set_metainfo(dict(ignore_index=void))
    label = build(size=(8, 8))(data, training=True)['data_samples'][0].gt_sem_seg.data[0]
    assert set(label[5:].unique().tolist()) == {void}
    assert (label[:5, :7] == 0).all()


def test_testing_pads_by_its_own_rule_and_leaves_labels_alone() -> None:
    data = batch((33, 40))
    out = build(size=(8, 8), test_cfg=dict(size_divisor=32))(data, training=False)
    assert out['inputs'].shape[-2:] == (64, 64)
    assert out['data_samples'][0].gt_sem_seg.data.shape == (1, 33, 40)


def test_without_test_cfg_the_published_protocol_keeps_the_size() -> None:
    assert build(size=(8, 8))(batch((33, 41)), training=False)['inputs'].shape[-2:] == (33, 41)


def test_images_and_labels_of_wrong_size_raise() -> None:
    with pytest.raises(ValueError, match='larger than data_preprocessor.size'):
        build(size=(8, 8))(batch((9, 8)), training=True)
    data = batch((8, 8))
    data['data_samples'][0].gt_sem_seg = PixelData(data=torch.zeros(1, 4, 8))
    with pytest.raises(ValueError, match='a.jpg'):
        build(size=(8, 8))(data, training=True)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(size=(8, 8), size_divisor=4), 'not both'),
        (dict(test_cfg=dict(size=(8, 8), size_divisor=2)), 'test_cfg takes size or size_divisor, not both'),
        (dict(test_cfg=dict(divisor=32)), 'unknown keys'),
        (dict(sizes=(8, 8)), 'sizes'),
    ],
)
def test_wrong_arguments_raise(arguments: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        build(**arguments)
