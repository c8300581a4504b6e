"""Every tool on a tiny depth model: data, training, test, pictures, export, report."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dpt.apis import Depth, Predictor
from dpt.datasets.depth_files import decode_depth
from dpt.evaluation.scores import load_scores
from dpt.visualization.depth import UNMEASURED


@pytest.fixture(scope='module')
def config(repository: Path, tool_main: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The depth quickstart with a tiny model, 6 training and 4 validation images, and 4 iterations."""
    folder = tmp_path_factory.mktemp('depth')
    data = folder / 'data'
    assert tool_main('tools/make_quickstart_data.py')(data, '--train', 6, '--val', 4, '--depth') == 0
    path = folder / 'tiny_depth.py'
    path.write_text(
        f'_base_ = [{str(repository / "configs" / "quickstart_depth.py")!r}]\n'
        'model = dict(backbone=dict(embed_dims=16, num_heads=2),\n'
        '             neck=dict(in_channels=16, channels=8, post_process_channels=(4, 8, 8, 8)),\n'
        '             decode_head=dict(in_channels=8))\n'
        'total_batch_size = 2\n'
        'train_cfg = dict(max_iters=4, val_interval=4)\n'
        'default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=4))\n'
        f'loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={str(data)!r}))\n'
        'train_dataloader = val_dataloader = test_dataloader = loader\n'
    )
    return path


@pytest.fixture(scope='module')
def work_dir(config: Path, tool_main: Callable) -> Path:
    """The work directory of the training, with the scores and pictures of a flip-averaged test."""
    folder = config.parent / 'work'
    assert tool_main('tools/train.py')(config, '--work-dir', folder) == 0
    checkpoint = next(folder.glob('best_abs_rel_iter_4.pth'))
    options = ('--aug-test', '--show-dir', folder / 'show', '--scores', folder / 'scores.npz')
    options += ('--out', folder / 'out', '--work-dir', folder / 'test')
    assert tool_main('tools/test.py')(config, checkpoint, *options) == 0
    return folder


@pytest.fixture(scope='module')
def checkpoint(work_dir: Path) -> Path:
    return work_dir / 'best_abs_rel_iter_4.pth'


@pytest.fixture(scope='module')
def images(config: Path) -> list[Path]:
    return sorted((config.parent / 'data/images/validation').iterdir())


def test_pictures_files_and_scores_of_a_test(work_dir: Path, images: list[Path]) -> None:
    for image in images:
        size = cv2.imread(str(image)).shape
        picture = cv2.imread(str(work_dir / 'show' / f'{image.stem}.png'))
        assert picture.shape[1] > 4 * size[1]  # image, truth, prediction, error
        assert np.load(work_dir / 'out' / f'{image.stem}.npy').shape == size[:2]
    scores = load_scores(work_dir / 'scores.npz')
    assert scores.values.shape == (4, len(scores.names))
    assert np.isfinite(scores.column('abs_rel')).all()
    assert len(list(work_dir.glob('2*/vis_data/vis_image/val_*.png'))) == 4  # of the validation


def test_predictor_returns_depth(checkpoint: Path, images: list[Path]) -> None:
    result = Predictor(checkpoint, device='cpu')(images[0])
    assert isinstance(result, Depth)
    assert result.depth.shape == result.image.shape[:2]
    assert result.depth.dtype == np.float32
    assert 0 < result.depth.min() < result.depth.max() < 25
    assert result.overlay().shape == result.image.shape
    assert result.overlay(legend=True).shape[0] > result.image.shape[0]
    np.testing.assert_array_equal(result.overlay(0), cv2.cvtColor(result.image, cv2.COLOR_BGR2RGB))


@pytest.mark.parametrize('factor', [None, 256])
def test_infer_writes_depth_and_pictures(call, checkpoint, images, tmp_path, factor) -> None:
    options = () if factor is None else ('--depth-scale-factor', factor)
    show = ('--out', tmp_path / 'out', '--show-dir', tmp_path / 'show')
    status, printed, _ = call('infer', checkpoint, images[0], *show, *options)
    assert status == 0
    assert 'depth in' in printed
    (file,) = (tmp_path / 'out').iterdir()
    written = decode_depth(file.read_bytes(), str(file)) / (factor or 1)
    result = Predictor(checkpoint, device='cpu')(images[0])
    np.testing.assert_allclose(written, result.depth, atol=0.5 / factor if factor else 1e-6)
    drawn = cv2.imread(str(tmp_path / 'show' / f'{images[0].stem}.png'))[..., ::-1]
    np.testing.assert_array_equal(drawn, result.overlay(legend=True))


def test_infer_refuses_numbers_above_16_bits(call, checkpoint, images, tmp_path) -> None:
    options = ('--out', tmp_path / 'out', '--depth-scale-factor', 1e6)
    status, _, error = call('infer', checkpoint, images[0], *options)
    assert status == 1
    assert 'use a factor of at most' in error


def test_frames_of_a_video_share_their_colours(call, checkpoint, images, tmp_path) -> None:
    clip = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*'MJPG'), 5, (96, 64))
    for image in images[:2]:
        writer.write(cv2.resize(cv2.imread(str(image)), (96, 64)))
    writer.release()
    status, printed, _ = call(
        'infer', checkpoint, clip, '--show-dir', tmp_path / 's', '--out', tmp_path / 'o'
    )
    assert status == 0
    assert '2 video frames' in printed
    video = cv2.VideoCapture(str(tmp_path / 's/clip.mp4'))
    first, second = video.read()[1], video.read()[1]
    bars = [frame[-40:].astype(int) for frame in (first, second)]
    assert np.abs(bars[0] - bars[1]).mean() < 3  # but for the compression
    assert len(list((tmp_path / 'o/clip').glob('*.npy'))) == 2


def test_relative_depth_is_not_written_in_millimetres(call, checkpoint, images, tmp_path) -> None:
    relative = ('model.decode_head.relative=True', 'model.decode_head.output=relu')
    relative += ('model.loss.type=ScaleShiftInvariantLoss',)
    options = ('--out', tmp_path / 'out', '--depth-scale-factor', 1000, '--cfg-options', *relative)
    status, _, message = call('infer', checkpoint, images[0], *options)
    assert status == 1
    assert 'predicts inverse depth without a unit: omit it for .npy files' in message


def test_exported_depth_equals_the_model_of_any_size(call, tool_module, checkpoint, images, tmp_path) -> None:
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    file = tmp_path / 'depth.onnx'
    options = ('--format', 'onnx', '--out', file, '--check', *images[:2])
    status, printed, _ = call('export', checkpoint, *options)
    assert status == 0
    assert '100.0000 % of depths on 2 images' in printed
    serve = tool_module('tools/serve_onnx.py')
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    expected = Predictor(checkpoint, device='cpu')(images[0])
    np.testing.assert_allclose(serve.depth_of(session, expected.image), expected.depth, rtol=1e-3)
    random = np.random.default_rng(0).integers(0, 256, (2, 97, 131, 3), dtype=np.uint8)
    assert session.run(None, {'image': random})[0].shape == (2, 1, 97, 131)


def test_served_depth_below_zero_becomes_zero(tool_module, tmp_path) -> None:
    serve, file = tool_module('tools/serve_onnx.py'), tmp_path / 'depth.png'
    serve.write_depth(str(file), np.array([[-0.01, 1.5]], np.float32), relative=False)
    assert cv2.imread(str(file), cv2.IMREAD_UNCHANGED).tolist() == [[0, 1500]]


def test_torch_export_of_one_size(call, checkpoint, images, tmp_path) -> None:
    options = ('--no-dynamic', '--out', tmp_path / 'depth.pt2', '--check', images[0])
    status, printed, _ = call('export', checkpoint, '--format', 'torch_export', *options)
    assert status == 0
    assert 'of depths on 1 images' in printed


def test_report_and_logs_show_scores_of_depth(call, work_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / 'report.html'
    assert call('report', work_dir, '--out', out)[0] == 0
    html = out.read_text(encoding='utf-8')
    for text in (
        'abs_rel of the test',
        'Worst by abs_rel',
        '<td>rmse_log</td>',
        'best abs_rel of validation',
    ):
        assert text in html
    assert html.count('<figure>') >= 8  # four of the test, four of the validation
    status, printed, _ = call('analyze_logs', work_dir, '--out', tmp_path / 'curves.png')
    assert status == 0
    assert 'best abs_rel' in printed


def test_confusion_matrix_says_why_not(call, work_dir: Path) -> None:
    status, _, error = call('confusion_matrix', work_dir / 'scores.npz')
    assert status == 1
    assert 'contains scores of depth, which has no classes' in error


def test_published_file_predicts_the_same(call, checkpoint, images, tmp_path) -> None:
    status, printed, error = call('publish_model', checkpoint, tmp_path / 'depth.safetensors')
    assert status == 0, error
    assert 'abs_rel' in printed
    (file,) = tmp_path.glob('depth-*.safetensors')
    both = [Predictor(one, device='cpu')(images[0]).depth for one in (file, checkpoint)]
    np.testing.assert_array_equal(*both)


def test_browse_draws_depth_beside_images(call, config: Path, tmp_path: Path) -> None:
    out = tmp_path / 'seen.png'
    status, _, error = call('browse_dataset', config, '--number', 2, '--out', out)
    assert status == 0, error
    picture = cv2.imread(str(out))
    assert (picture == UNMEASURED).all(axis=-1).mean() > 0.05  # the sky


def test_costs_and_speed_of_a_depth_model(call, config: Path, tmp_path: Path) -> None:
    status, printed, _ = call('get_flops', config)
    assert status == 0
    assert 'conv depth' in printed
    modes = ('--train', '--infer', '--tta', '--data', '--metric')
    options = ('--device', 'cpu', '--iters', 1, '--batch-size', 1, '--size', 64, 96)
    status, _, error = call('benchmark', config, *modes, *options, '--json', tmp_path / 'a.json')
    assert status == 0, error
    results = {one['name']: one for one in json.loads((tmp_path / 'a.json').read_text())['results']}
    assert list(results) == ['train', 'infer', 'tta (2 views)', 'data', 'metric']
    assert {'loss', 'backward', 'conv1'} <= {part['name'] for part in results['train']['parts']}


def test_check_data_shows_a_histogram(call, config: Path, tmp_path: Path) -> None:
    status, printed, _ = call('check_data', config, '--workers', 0, '--json', tmp_path / 'found.json')
    assert status == 0
    assert 'no faults found' in printed
    assert '% of the pixels measured' in printed
    assert '####' in printed
    found = json.loads((tmp_path / 'found.json').read_text())
    assert 2 < found[0]['depth']['low'] < found[0]['depth']['high'] <= 20
    options = ('--cfg-options', 'train_dataloader.dataset.depth_rescale_factor=1')
    status, printed, _ = call('check_data', config, '--workers', 0, *options)
    assert status == 1
    assert 'FAULT: depth too large' in printed


@pytest.fixture
def pairs(config: Path, tmp_path: Path) -> Path:
    """Six images of the data set and their depth in millimetres."""
    source = config.parent / 'data'
    for folder in ('photos', 'depth'):
        (tmp_path / folder).mkdir()
    for path in sorted((source / 'images/training').iterdir()):
        (tmp_path / 'photos' / path.name).symlink_to(path)
        depth = cv2.imread(str(source / 'depth/training' / f'{path.stem}.png'), -1) / 256 * 1000
        cv2.imwrite(str(tmp_path / 'depth' / f'{path.stem}.png'), depth.astype(np.uint16))
    return tmp_path


def test_own_pairs_become_a_config_that_trains(call, repository, config, pairs, tmp_path) -> None:
    base = ('--base', config, '--out', tmp_path / 'mine', '--config', tmp_path / 'mine.py')
    arguments = ('new_dataset', pairs / 'photos', pairs / 'depth', '--depth', '--name', 'mine', *base)
    status, _, error = call(*arguments)
    assert status == 1
    assert 'm with --unit mm' in error
    assert 'm with --unit 1/256' in error
    status, printed, error = call(*arguments, '--unit', 'mm')
    assert status == 0, error
    assert 'unit: 0.001 m' in printed
    text = (tmp_path / 'mine.py').read_text()
    assert 'depth_rescale_factor=0.001' in text
    assert 'max_depth = 25.0' in text
    status, printed, error = call('train', tmp_path / 'mine.py', '--work-dir', tmp_path / 'work')
    assert status == 0, error
    assert list((tmp_path / 'work').glob('best_abs_rel_iter_*.pth'))


def test_floats_are_taken_for_metres_and_markers_for_invalid(call, config, pairs, tmp_path) -> None:
    for path in (pairs / 'depth').glob('*.png'):
        depth = cv2.imread(str(path), -1).astype(np.float32) / 1000 + 0.25
        np.save(path.with_suffix('.npy'), np.where(depth < 0.3, np.float32(65535), depth))
        path.unlink()
    arguments = ('new_dataset', pairs / 'photos', pairs / 'depth', '--depth', '--name', 'mine', '--dry-run')
    status, printed, error = call(*arguments, '--base', config)
    assert status == 0, error
    assert 'unit: 1 m' in printed
    assert "65535 is taken for 'no measurement'" in printed
    assert 'nothing was written' in printed
