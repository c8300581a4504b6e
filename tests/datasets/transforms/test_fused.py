"""The fused step against mmcv's and our own steps, one after the other."""

import cv2
import numpy as np
import pytest
from mmcv.transforms import RandomFlip, RandomResize

from dpt.datasets import PackSegInputs, RandomCrop, RandomResizeByRatio
from dpt.datasets.transforms.geometry import ResizeCropFlip, fuse, resize_corner, resize_labels


def steps(scale=(80, 20), ratios=(0.5, 2.0), keep_ratio=True, crop=(16, 24), max_ratio=0.75, **flip):
    if scale is None:
        resize = RandomResizeByRatio(ratios)
    else:
        resize = RandomResize(scale=scale, ratio_range=ratios, keep_ratio=keep_ratio)
    return [
        resize,
        RandomCrop(crop, cat_max_ratio=max_ratio),
        RandomFlip(**{'prob': 0.5, **flip}),
    ]


def sample(seed):
    generator = np.random.default_rng(seed)
    height, width = generator.integers(9, 60, 2)
    coarse = generator.choice([0, 0, 0, 255, 1, 2, 3], size=(height // 8 + 1, width // 8 + 1))
    labels = np.kron(coarse, np.ones((8, 8), int))[:height, :width].astype(np.uint8)
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {'img': image, 'gt_seg_map': labels, 'seg_fields': ['gt_seg_map'], 'ori_shape': (height, width)}


@pytest.mark.parametrize(
    'arguments',
    [
        {},
        {'keep_ratio': False},
        {'scale': None},
        {'scale': [(40, 10), (160, 40)], 'ratios': None},
        {'max_ratio': 1.0, 'prob': [0.3, 0.3, 0.3], 'direction': ['horizontal', 'vertical', 'diagonal']},
        {'max_ratio': 0.4, 'crop': (8, 8), 'ratios': (2.0, 4.0)},
    ],
)
def test_fused_step_equals_three_steps_and_their_draws(arguments):
    plain = steps(**arguments)
    fused = fuse(plain)
    assert [type(step) for step in fused] == [ResizeCropFlip]
    flips = set()
    for seed in range(150):
        expected, given = sample(seed), sample(seed)
        np.random.seed(seed)
        for step in plain:
            expected = step(expected)
        next_draw = np.random.rand()
        np.random.seed(seed)
        result = fused[0](given)
        assert np.random.rand() == next_draw
        np.testing.assert_array_equal(result.pop('img'), expected.pop('img'))
        np.testing.assert_array_equal(result.pop('gt_seg_map'), expected.pop('gt_seg_map'))
        expected.pop('swap_seg_labels', None)
        assert result == expected
        flips.add(result['flip_direction'])
    assert len(flips) == (4 if 'direction' in arguments else 2)


def test_resized_corner_equals_corner_of_resized_image():
    generator = np.random.default_rng(0)
    sizes = [(60, 40, 30, 20), (30, 31, 60, 62), (20, 20, 20, 20)]
    sizes += [tuple(generator.integers(1, 140, 4)) for _ in range(300)]
    for height, width, new_height, new_width in sizes:
        image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        whole = cv2.resize(image, (int(new_width), int(new_height)))
        bottom, right = generator.integers(1, new_height + 1), generator.integers(1, new_width + 1)
        corner = resize_corner(image, (int(new_width), int(new_height)), int(bottom), int(right))
        np.testing.assert_array_equal(corner, whole[:bottom, :right])
    # A corner that has as many pixels after resizing as before: OpenCV alone would copy it.
    image = generator.integers(0, 256, (51, 48, 3), dtype=np.uint8)
    whole = cv2.resize(image, (47, 50))
    np.testing.assert_array_equal(resize_corner(image, (47, 50), 20, 20), whole[:20, :20])


def test_resized_window_equals_window_of_resized_labels():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 256, (90, 131), dtype=np.uint8)
    sizes = [(new, 1 + (7 * new) % 300) for new in range(1, 300)]  # (width, height)
    sizes += [(131, 90), (131, 180), (262, 90), (262, 180), (1048, 720)]
    for width, height in sizes:
        whole = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        top, left = int(generator.integers(0, height)), int(generator.integers(0, width))
        for box in ((top, top + 64, left, left + 64), (0, 2000, 0, 2000)):
            expected = whole[box[0] : box[1], box[2] : box[3]]
            np.testing.assert_array_equal(resize_labels(labels, (width, height), box), expected)


def test_images_without_labels_are_transformed():
    (fused,) = fuse(steps(max_ratio=1.0))
    result = fused({'img': sample(0)['img']})
    assert 'gt_seg_map' not in result
    assert result['img_shape'] == result['img'].shape[:2]


def test_samples_with_other_fields_equal_plain_steps():
    plain = steps()
    (fused,) = fuse(plain)
    for seed in range(20):
        results = []
        for run in (plain, [fused]):
            one = dict(sample(seed), gt_depth=sample(seed)['gt_seg_map'], gt_bboxes=np.ones((1, 4)))
            np.random.seed(seed)
            for step in run:
                one = step(one)
            results.append(one)
        np.testing.assert_array_equal(results[0]['img'], results[1]['img'])
        np.testing.assert_array_equal(results[0]['gt_bboxes'], results[1]['gt_bboxes'])


def test_other_steps_are_not_fused():
    resize, crop, flip = steps()

    class OtherCrop(RandomCrop):
        pass

    others = [
        [crop, resize, flip],
        [resize, crop, PackSegInputs(), flip],
        [RandomResize((8, 8), (1.0, 2.0), interpolation='bicubic'), crop, flip],
        [RandomResize((8, 8), (1.0, 2.0), backend='pillow'), crop, flip],
        [resize, OtherCrop(8), flip],
        [resize, crop, RandomFlip(0.5, swap_seg_labels=[(0, 1)])],
    ]
    for one in others:
        assert fuse(one) == one
