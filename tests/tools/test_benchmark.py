"""``tools/benchmark.py`` and ``tools/get_flops.py`` as a user runs them."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

PARTS = ['backbone', 'reassemble', 'convs', 'fusion', 'project', 'classifier']
SIZE = (96, 128)


@pytest.fixture(scope='module')
def report(tool_main: Callable, tiny_config: Path, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp('benchmark')
    modes = ['--train', '--infer', '--tta', '--data', '--metric']
    files = ['--json', folder / 'a.json', '--picture', folder / 'a.png']
    options = ['--device', 'cpu', '--iters', 2, '--batch-size', 2, '--size', *SIZE]
    tool_main('tools/benchmark.py')(tiny_config, *modes, *options, *files)
    picture = cv2.imread(str(folder / 'a.png'))
    return dict(json.loads((folder / 'a.json').read_text()), picture=picture)


def test_every_mode_is_measured(report: dict) -> None:
    results = {result['name']: result for result in report['results']}
    assert list(results) == ['train', 'infer', 'tta (6 views)', 'data', 'metric']
    for result in results.values():
        assert result['images_per_s'] > 0
        assert 0 < result['latency_ms']['median'] <= result['latency_ms']['p90']
        assert sum(part['share'] for part in result['parts']) == pytest.approx(1)
    for name in ('train', 'infer', 'tta (6 views)'):
        assert results[name]['of_matrix_rate'] > 0
        assert [part['name'] for part in results[name]['parts'] if part['name'] in PARTS] == PARTS
    assert {'loss', 'backward', 'optimizer'} <= {part['name'] for part in results['train']['parts']}
    loading = {part['name'] for part in results['data']['parts']}
    assert {'LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs'} <= loading


def test_flops_are_those_of_the_padded_batch(report: dict) -> None:
    train, infer, tta = (report['results'][i]['gflop_per_image'] for i in range(3))
    # Forward and backward, but for the gradient of the images; views of 96, 120 and 150 rows padded to 32.
    assert 2.5 * infer < train < 3 * infer
    assert tta > 6 * infer


def test_a_picture_is_drawn(report: dict) -> None:
    assert report['picture'].shape[1] == 1320
    assert report['picture'].std() > 10


def test_the_table_shows_rate_and_utilisation(call: Callable, tiny_config: Path) -> None:
    _, table, _ = call('benchmark', tiny_config, '--infer', '--device', 'cpu', '--iters', 1)
    assert 'images/s, latency' in table
    assert 'of the measured matrix rate, MFU' in table


def test_get_flops_adds_up(call: Callable, tiny_config: Path) -> None:
    lines = call('get_flops', tiny_config, '--shape', *SIZE)[1].splitlines()
    assert lines[0] == 'one image of 96x128'
    cells = [line.split() for line in lines[3:]]
    rows = {row[0]: [float(x) for x in row[1:]] for row in cells if len(row) == 4}
    assert [name for name in rows if name in PARTS] == PARTS
    for i in range(3):
        total = sum(row[i] for name, row in rows.items() if name != 'all')
        assert total == pytest.approx(rows['all'][i], abs=0.05 * len(rows))


def test_the_page_shows_what_get_flops_counts(call: Callable, repository: Path) -> None:
    pytest.importorskip('timm')
    configs = [
        'dpt_dinov3-s16_512x512_152k_ade20k_frozen',
        'dpt_vit-s14_252x336_camvid_cpu',
    ]
    table = call('get_flops', *(repository / 'configs' / f'{name}.py' for name in configs))[1].splitlines()
    page = (repository / 'docs' / 'backbones.md').read_text().splitlines()
    rows = [line for line in table if line.startswith('| `')]
    assert len(rows) == 2
    assert set(table[-4:]) <= set(page)
