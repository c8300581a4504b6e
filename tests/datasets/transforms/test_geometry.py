"""RandomCrop against an oracle with its own draws; RandomResizeByRatio, ResizeToMultiple."""

import numpy as np
import pytest

from dpt.datasets import RandomCrop, RandomResizeByRatio, ResizeToMultiple
from dpt.datasets.transforms.geometry import dominated


def coordinates(height, width):
    """An image whose pixels hold their own position."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows + columns], -1).astype(np.uint8)


def blocks(height, width, seed, classes=4):
    """Labels in blocks, many of class 0 and of 255: crops are often dominated by one class."""
    generator = np.random.default_rng(seed)
    coarse = generator.choice([0, 0, 0, 255, *range(classes)], size=(height // 8 + 1, width // 8 + 1))
    return np.kron(coarse, np.ones((8, 8), int))[:height, :width].astype(np.uint8)


def sample(image, labels):
    return {'img': image, 'gt_seg_map': labels, 'seg_fields': ['gt_seg_map']}


def crop_oracle(labels, crop, ratio, state, ignore_index):
    """The rule in words: draw (row, column); ten times at most, draw again while the window is bad."""
    height, width = labels.shape

    def draw():
        row = state.randint(0, height - crop[0] + 1 if height > crop[0] else 1)
        return row, state.randint(0, width - crop[1] + 1 if width > crop[1] else 1)

    row, column = draw()
    redraws = 0
    while ratio < 1 and redraws < 10:
        window = labels[row : row + crop[0], column : column + crop[1]]
        shares = [(window == c).sum() for c in np.unique(window) if c != ignore_index]
        if len(shares) >= 2 and max(shares) / sum(shares) < ratio:
            break
        row, column = draw()
        redraws += 1
    return row, column, redraws


@pytest.mark.parametrize('ignore_index', [255, 0])
@pytest.mark.parametrize('ratio', [1.0, 0.75, 0.5, 0.3])
@pytest.mark.parametrize(('height', 'width'), [(64, 97), (30, 90), (90, 24), (24, 32), (20, 20)])
def test_crops_follow_rule_draw_for_draw(height, width, ratio, ignore_index):
    crop = RandomCrop((24, 32), cat_max_ratio=ratio, ignore_index=ignore_index)
    image = coordinates(height, width)
    total_redraws = []
    for seed in range(30):
        labels = blocks(height, width, seed)
        state = np.random.RandomState(seed)
        row, column, redraws = crop_oracle(labels, (24, 32), ratio, state, ignore_index)
        np.random.seed(seed)
        result = crop(sample(image, labels))
        np.testing.assert_array_equal(result['img'], image[row : row + 24, column : column + 32])
        np.testing.assert_array_equal(result['gt_seg_map'], labels[row : row + 24, column : column + 32])
        assert result['img_shape'] == result['img'].shape[:2]
        assert np.random.rand() == state.rand()  # nothing more and nothing less was drawn
        total_redraws.append(redraws)
    if ratio == 0.5:
        assert len(set(total_redraws)) > 1 or height <= 24  # the rule had something to decide


def test_crop_size_is_a_number_or_list():
    assert RandomCrop(8)(sample(coordinates(20, 20), blocks(20, 20, 0)))['img_shape'] == (8, 8)
    assert RandomCrop([8, 6])(sample(coordinates(20, 20), blocks(20, 20, 0)))['img_shape'] == (8, 6)


def test_wide_labels_are_counted():
    labels = np.arange(400, dtype=np.int32).reshape(20, 20) + 1000
    assert not dominated(labels, 0.01)
    assert dominated(np.full((4, 4), 70000, np.int32), 0.9)


@pytest.mark.parametrize('ignore_index', [255, 0, 3, 300])
@pytest.mark.parametrize('ratio', [0.2, 0.5, 0.75, 1.0])
def test_domination_equals_counting(ratio, ignore_index):
    outcomes = set()
    for seed in range(40):
        generator = np.random.default_rng(seed)
        shares = generator.dirichlet(np.full(6, generator.choice([0.1, 1, 10])))
        labels = generator.choice([0, 1, 2, 3, 254, 255], p=shares, size=generator.integers(1, 70, 2))
        counts = np.array([(labels == label).sum() for label in range(256) if label != ignore_index])
        expected = (counts > 0).sum() < 2 or counts.max() / counts.sum() >= ratio
        assert dominated(labels.astype(np.uint8), ratio, ignore_index) is bool(expected)
        outcomes.add(bool(expected))
    assert len(outcomes) == 2 or ratio in (0.2, 1.0)


def test_cropping_without_labels_needs_no_class_rule():
    assert RandomCrop(8)({'img': coordinates(20, 20)})['img_shape'] == (8, 8)
    with pytest.raises(ValueError, match='requires LoadAnnotations before it'):
        RandomCrop(8, 0.75)({'img': coordinates(20, 20)})


def test_labels_of_another_size_raise():
    with pytest.raises(ValueError, match=r'\(20, 20\).*\(19, 20\): put LoadAnnotations before'):
        RandomCrop(8)(sample(coordinates(20, 20), blocks(19, 20, 0)))


@pytest.mark.parametrize('size', [0, (4, -1), (4, 4, 4), (4.5, 4)])
def test_wrong_crop_size_raises(size):
    with pytest.raises(ValueError, match='crop_size must be'):
        RandomCrop(size)


@pytest.mark.parametrize('ratio', [0, -1, 1.5])
def test_wrong_cat_max_ratio_raises(ratio):
    with pytest.raises(ValueError, match='cat_max_ratio must be'):
        RandomCrop(8, ratio)


def test_ratios_are_of_the_image_itself():
    resize = RandomResizeByRatio((0.5, 2.0))
    np.random.seed(0)
    for height, width in ((40, 60), (60, 40), (40, 60)):
        sizes = [
            resize(sample(coordinates(height, width), blocks(height, width, 0)))['img_shape']
            for _ in range(200)
        ]
        ratios = [size[0] / height for size in sizes]
        assert all(abs(size[1] / width - ratio) < 1 / 40 for size, ratio in zip(sizes, ratios, strict=True))
        assert 0.47 <= min(ratios) < 0.55
        assert 1.95 < max(ratios) <= 2
        assert 1.1 < np.mean(ratios) < 1.4
    for wrong in ((0, 1), (2, 1)):
        with pytest.raises(ValueError, match='ratio_range'):
            RandomResizeByRatio(wrong)


@pytest.mark.parametrize(
    ('height', 'width', 'expected'), [(33, 64, (64, 64)), (32, 31, (32, 32)), (1, 65, (32, 96))]
)
def test_sides_are_rounded_up_to_multiple(height, width, expected):
    labels = np.random.default_rng(0).choice([3, 200], (height, width)).astype(np.uint8)
    result = ResizeToMultiple(32)(sample(coordinates(height, width), labels))
    assert result['img'].shape == (*expected, 3)
    assert result['img_shape'] == result['pad_shape'] == expected
    assert result['gt_seg_map'].shape == expected
    assert result['gt_seg_map'].dtype == np.uint8
    assert set(np.unique(result['gt_seg_map'])) <= {3, 200}


def test_interpolation_applies_to_image_only():
    image = np.random.default_rng(0).choice([10, 250], (20, 20, 3)).astype(np.uint8)
    nearest = ResizeToMultiple(32, interpolation='nearest')(sample(image, blocks(20, 20, 0)))
    smooth = ResizeToMultiple(32)(sample(image, blocks(20, 20, 0)))
    assert set(np.unique(nearest['img'])) == {10, 250}
    assert len(np.unique(smooth['img'])) > 2
    np.testing.assert_array_equal(nearest['gt_seg_map'], smooth['gt_seg_map'])
