"""Signs of wrong units in depth."""

from pathlib import Path

import numpy as np
import pytest

from dpt.datasets.depth_files import decode_depth
from dpt.extras.check_depth import DepthRecord, faults_of, histogram, notes_of, summary


def record(values: np.ndarray, factor: float = 1.0) -> DepthRecord:
    return DepthRecord.of(values, (values * factor).astype(np.float32))


def scene(near: float = 2.0, far: float = 40.0) -> np.ndarray:
    """Depth that falls from the upper edge to the lower one."""
    return np.tile(np.geomspace(far, near, 40)[:, None], (1, 30))


@pytest.mark.parametrize(
    ('values', 'factor', 'kinds'),
    [
        (scene(), 1, []),
        (1000 * scene(), 1, ['depth too large']),
        (scene(), 0.001, ['depth too small']),
        (np.full((40, 30), 7.0), 1, ['depth constant']),
    ],
)
def test_wrong_units_are_faults(values: np.ndarray, factor: float, kinds: list[str]) -> None:
    found = faults_of([record(values, factor)] * 6, 'a.png', factor)
    assert [kind for kind, _ in found] == kinds
    assert all('a.png' in message for _, message in found)


@pytest.mark.parametrize(
    ('values', 'kinds'),
    [
        (scene(), []),
        (100 / scene(), ['may be inverse depth']),
        (np.where(np.arange(30) < 3, 65535, scene()), ['may mean no measurement']),
        (np.rint(scene()), ['coarse depth']),
    ],
)
def test_unusual_depth_is_noted(values: np.ndarray, kinds: list[str]) -> None:
    assert [kind for kind, _ in notes_of([record(values)] * 6, 'a.png', None)] == kinds


def test_known_marker_and_few_images_are_not_noted() -> None:
    assert not notes_of([record(np.where(np.arange(30) < 3, 65535, scene()))], 'a.png', 65535)
    assert not notes_of([record(100 / scene())] * 2, 'a.png', None)


def test_histogram_counts_measured_pixels() -> None:
    values = np.array([[0, 0, 1.5, 3], [3, 3, 7, 7]])
    lines = histogram(summary([record(values)]))
    assert '75.0% of the pixels measured' in lines[0]
    assert [line.split()[4] for line in lines[1:]] == ['16.7%', '50.0%', '33.3%']


@pytest.mark.parametrize(
    ('files', 'factor', 'faults', 'inverse'),
    [
        ('nyu/depth/*.png', 0.001, [], False),
        ('kitti/depth/*.png', 1 / 256, [], False),
        ('nyu/depth/*.png', 1, ['depth too large'], False),
        ('motorcycle/*.npz', 1, [], True),  # disparity
    ],
)
def test_real_samples_are_judged(
    depth_samples_root: Path, files: str, factor: float, faults: list[str], inverse: bool
) -> None:
    records = []
    for path in sorted(depth_samples_root.glob(files)):
        values = decode_depth(path.read_bytes(), str(path))
        records.append(record(np.where(np.isfinite(values), values, 0), factor))
    assert [kind for kind, _ in faults_of(records, 'a.png', factor)] == faults
    kinds = [kind for kind, _ in notes_of(5 * records, 'a.png', None)]
    assert kinds == (['may be inverse depth'] if inverse else [])
