"""``tools/train.py`` and ``tools/test.py`` from end to end."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
from outputs import logged, result_of

from dpt.evaluation import Scores, segmentation_metrics


def test_training_logs_progress_and_its_settings(trained: Path) -> None:
    log = (trained / 'stdout.log').read_text()
    line = next(line for line in log.splitlines() if 'Iter(train)' in line and '[4/4]' in line)
    for item in ('lr', 'eta', 'time', 'loss', 'decode.acc_seg', 'mfu', 'images/s', 'memory', 'data wait'):
        assert f'{item}:' in line
    assert 'WARNING - Failed to search registry' not in log
    (file,) = trained.glob('*/*.log')
    for title in ('System environment:', 'Config:\n', 'Hooks will be executed'):  # long tables
        assert title in file.read_text()
        assert title not in log
    info = json.loads(next(trained.glob('run_info_*.json')).read_text())
    assert info['versions']['torch'] == torch.__version__
    assert isinstance(info['seed'], int)
    assert info['git_commit'] is None or re.match(r'[0-9a-f]{40}', info['git_commit'])
    assert (trained / 'tiny.py').is_file()
    assert 'num_layers=4' in (trained / 'tiny.py').read_text()
    assert list(trained.glob('*/vis_data/events.out.tfevents*'))


def test_validation_draws_images_into_files_and_tensorboard(trained: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = sorted(path.name for path in trained.glob('*/vis_data/vis_image/*.png'))
    assert len(files) == 4
    assert all(re.fullmatch(r'val_.+_4\.png', name) for name in files)
    (events,) = trained.glob('*/vis_data/events.out.tfevents*')
    accumulator = EventAccumulator(str(events)).Reload()
    tags = accumulator.Tags()['images']
    assert sorted(f'{tag}_4.png' for tag in tags) == files
    assert accumulator.Images(tags[0])[0].step == 4


def test_checkpoints_load_safely_and_hold_class_names(trained: Path) -> None:
    checkpoint = torch.load(trained / 'iter_4.pth', weights_only=True)
    assert checkpoint['meta']['dataset_meta']['classes'][:2] == ('sky', 'ground')
    assert {'state_dict', 'optimizer', 'param_schedulers', 'message_hub', 'meta'} <= set(checkpoint)


def test_two_processes_repeat_the_last_validation_to_the_last_digit(
    run_tool, trained: Path, tiny_config: Path, tmp_path: Path
) -> None:
    arguments = ('tools/test.py', tiny_config, trained / 'iter_4.pth', '--work-dir', tmp_path)
    result = run_tool(*arguments, '--scores', tmp_path / 'scores.npz', processes=2)
    metrics, validation = result_of(result.stdout), logged(trained, 'mIoU')[-1]
    scores = Scores.load(tmp_path / 'scores.npz')
    assert len(set(scores.images)) == 5  # none counted twice
    assert metrics['aAcc'] == 100 * float(segmentation_metrics(scores.confusion)['aAcc'])
    assert metrics['mIoU'] == validation['mIoU']
    assert metrics['aAcc'] == validation['aAcc']
    assert 'protocol' in result.stdout
    assert re.search(r'sha256 [0-9a-f]{8}', result.stdout)


def test_aug_test_writes_label_maps_and_pictures(
    run_tool, trained: Path, tiny_config: Path, tmp_path: Path
) -> None:
    result = run_tool(
        *('tools/test.py', tiny_config, trained / 'iter_4.pth', '--work-dir', tmp_path / 'work'),
        *('--aug-test', '--out', tmp_path / 'labels', '--show-dir', tmp_path / 'pictures'),
    )
    assert 0 <= result_of(result.stdout)['mIoU'] <= 100
    assert 'with and without' in result.stdout
    images = sorted((tiny_config.parent / 'data/images/validation').glob('*.jpg'))
    labels = sorted((tmp_path / 'labels').glob('*.png'))
    assert [path.stem for path in labels] == [path.stem for path in images]
    for image, label in zip(images, labels, strict=True):
        labels_read = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
        assert labels_read.shape == cv2.imread(str(image)).shape[:2]
        assert labels_read.max() < 6
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == len(images)


def test_resume_continues_the_training(run_tool, trained: Path, tiny_config: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / 'moved'  # the pointer's absolute path is wrong after a move
    shutil.copytree(trained, work_dir)
    options = ('--cfg-options', 'train_cfg.max_iters=6', 'train_cfg.val_interval=10')
    result = run_tool('tools/train.py', tiny_config, '--work-dir', work_dir, '--resume', *options)
    assert 'resumed epoch: 0, iter: 4' in result.stdout + result.stderr
    assert (work_dir / 'iter_6.pth').is_file()
    checkpoint = torch.load(work_dir / 'iter_6.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == 6
    assert checkpoint['meta']['seed'] == torch.load(trained / 'iter_4.pth', weights_only=True)['meta']['seed']
    # The schedule stands at its sixth step, not its second.
    assert checkpoint['param_schedulers'][0]['last_step'] == 6


def test_the_ade20k_recipe_trains_and_tests(run_tool, ade_sample_root: Path, tmp_path: Path) -> None:
    root = tmp_path / 'ADEChallengeData2016'
    for kind in ('images', 'annotations'):  # three to train on, the first to validate with
        shutil.copytree(ade_sample_root / kind / 'validation', root / kind / 'training')
        (root / kind / 'validation').mkdir()
        first = next((root / kind / 'training').glob('ADE_val_00000001.*'))
        shutil.copy(first, root / kind / 'validation')
    options = (
        *('--work-dir', tmp_path / 'work', '--cfg-options', f'data_root={root}', 'total_batch_size=2'),
        *('model.backbone.init_cfg=None', 'model.backbone.embed_dims=48', 'model.neck.in_channels=48'),
        *('model.backbone.num_layers=4', 'model.backbone.out_indices=(0,1,2,3)'),
        *('model.neck.channels=16', 'model.neck.post_process_channels=(8,16,16,16)'),
        *('model.decode_head.channels=16', 'model.decode_head.in_channels=16'),
        *(f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')),
        *('train_cfg.max_iters=1', 'train_cfg.val_interval=9', 'test_evaluator.label_offset=1'),
    )
    config = 'configs/dpt_vit-b16_512x512_160k_ade20k.py'
    run_tool('tools/train.py', config, *options)
    tested = (
        'tools/test.py',
        config,
        tmp_path / 'work/iter_1.pth',
        '--aug-test',
        '--out',
        tmp_path / 'labels',
    )
    assert '3584x896' in run_tool(*tested, *options).stdout
    label = cv2.imread(str(tmp_path / 'labels/ADE_val_00000001.png'), cv2.IMREAD_UNCHANGED)
    truth = cv2.imread(str(root / 'annotations/validation/ADE_val_00000001.png'), cv2.IMREAD_UNCHANGED)
    assert label.shape == truth.shape
    assert label.dtype == np.uint8
    assert label.min() >= 1
