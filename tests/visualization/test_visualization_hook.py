"""Which images the hook draws, and where they go."""

from types import SimpleNamespace
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import BaseLoop, Runner
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from torch.utils.data import Dataset

from dpt.registry import HOOKS
from dpt.structures import SegDataSample
from dpt.visualization import SegLocalVisualizer, SegVisualizationHook

META = dict(classes=('sky', 'road'), palette=[[0, 0, 200], [200, 0, 0]])


@pytest.fixture
def paths(tmp_path):
    """Seven images of distinct red."""
    (tmp_path / 'images').mkdir()
    files = [str(tmp_path / f'images/{i}.png') for i in range(7)]
    for i, file in enumerate(files):
        cv2.imwrite(file, np.full((6, 8, 3), (200, 100, 30 * i), np.uint8))
    return files


class Recorder:
    """A visualizer that notes what it is asked to draw."""

    def __init__(self):
        self.calls = []

    def add_datasample(self, name, image, data_sample, **kwargs):
        assert data_sample.img_path.endswith(name.split('_')[1] + '.png')
        self.calls.append(dict(kwargs, name=name, red=int(image[0, 0, 0])))


def samples(paths):
    out = []
    for path in paths:
        one = SegDataSample(metainfo=dict(img_path=path))
        one.pred_sem_seg = PixelData(data=torch.zeros(1, 6, 8, dtype=torch.int64))
        one.gt_sem_seg = PixelData(data=torch.ones(1, 6, 8, dtype=torch.int64))
        out.append(one)
    return out


def drive(hook, batches, mode='val', size=7):
    loader = SimpleNamespace(dataset=range(size))
    runner = SimpleNamespace(visualizer=Recorder(), iter=40, val_dataloader=loader, test_dataloader=loader)
    runner._train_loop = Mock(spec=BaseLoop)
    getattr(hook, f'before_{mode}_epoch')(runner)
    for index, batch in enumerate(batches):
        getattr(hook, f'after_{mode}_iter')(runner, index, None, samples(batch))
    return runner.visualizer.calls


@pytest.mark.parametrize('batch_size', [1, 2, 3, 7])
def test_batch_size_does_not_change_the_images(paths, batch_size):
    hook = HOOKS.build(dict(type='SegVisualizationHook', draw=True, interval=3))
    batches = [paths[i : i + batch_size] for i in range(0, 7, batch_size)]
    for _ in range(2):
        calls = drive(hook, batches)
        assert [call['name'] for call in calls] == ['val_0', 'val_3', 'val_6']
        assert [call['red'] for call in calls] == [0, 90, 180]
        assert all(call['step'] == 40 and call['out_file'] is None for call in calls)


@pytest.mark.parametrize(
    ('num_images', 'world_size', 'expected'),
    [(1, 1, [0]), (3, 1, [0, 2, 4]), (7, 1, range(7)), (50, 1, range(7)), (2, 2, [0, 4]), (3, 4, [0, 4])],
)
@pytest.mark.parametrize('mode', ['val', 'test'])
def test_num_images_are_spread_over_the_data_set(paths, monkeypatch, num_images, world_size, expected, mode):
    monkeypatch.setattr('dpt.visualization.hook.get_dist_info', lambda: (0, world_size))
    hook = SegVisualizationHook(draw=True, num_images=num_images)
    for _ in range(2):  # the same ones every time
        calls = drive(hook, [[path] for path in paths[::world_size]], mode)
        assert [call['name'] for call in calls] == [f'{mode}_{i}' for i in expected]


@pytest.mark.parametrize(('rank', 'expected'), [(0, ['0', '6']), (1, ['3'])])
def test_processes_draw_their_own_images(paths, tmp_path, monkeypatch, rank, expected):
    monkeypatch.setattr('dpt.visualization.hook.get_dist_info', lambda: (rank, 2))
    hook = SegVisualizationHook(draw=True, interval=3, out_dir=str(tmp_path))
    own = [paths[rank::2][:2], paths[rank::2][2:]]
    files = [call['out_file'] for call in drive(hook, own, 'test')]
    assert files == [str(tmp_path / f'{stem}.png') for stem in expected]
    names = [call['name'] for call in drive(hook, own)]
    assert names == ([f'val_{stem}' for stem in expected] if rank == 0 else [])


def test_equal_names_in_two_folders_make_two_files(paths, tmp_path):
    hook = SegVisualizationHook(draw=True, interval=1, out_dir='out')
    (tmp_path / 'other').mkdir()
    cv2.imwrite(str(tmp_path / 'other/0.png'), np.zeros((6, 8, 3), np.uint8))
    calls = drive(hook, [[paths[0], str(tmp_path / 'other/0.png')]], 'test')
    assert [call['out_file'] for call in calls] == ['out/0.png', 'out/0_1.png']
    assert [call['name'] for call in calls] == ['test_0', 'test_0_1']


@pytest.mark.parametrize('content', [b'no image', b''])
def test_broken_images_are_named(tmp_path, content):
    (tmp_path / 'x.png').write_bytes(content)
    with pytest.raises(ValueError, match=r'x\.png: cannot be read as an image'):
        drive(SegVisualizationHook(draw=True), [[str(tmp_path / 'x.png')]])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match='interval'):
        SegVisualizationHook(interval=0)
    with pytest.raises(ValueError, match='num_images'):
        SegVisualizationHook(num_images=0)
    with pytest.raises(TypeError, match='intervall'):
        SegVisualizationHook(intervall=1)


def test_a_visualizer_that_draws_nothing_is_refused(paths):
    hook = SegVisualizationHook(draw=True)
    with pytest.raises(ValueError, match='SegLocalVisualizer'):
        hook.before_run(SimpleNamespace(visualizer=Visualizer()))
    hook.before_run(SimpleNamespace(visualizer=SegLocalVisualizer()))
    silent = SegVisualizationHook()
    silent.before_run(SimpleNamespace(visualizer=Visualizer()))
    assert drive(silent, [paths]) == []


class Images(Dataset):
    metainfo = META

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return dict(inputs=torch.zeros(3, 6, 8), data_samples=samples([self.paths[index]])[0])


class Echo(BaseModel):
    """Hands the samples on with the predictions they came with."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return data_samples


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_the_engine_evaluates_and_draws(paths, tmp_path, mode):
    loader = dict(
        batch_size=2,
        dataset=Images(paths),
        sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    config = {
        f'{mode}_dataloader': loader,
        f'{mode}_cfg': {},
        f'{mode}_evaluator': dict(type='IoUMetric'),
        # Data for training need not be there.
        'train_dataloader': dict(dataset=dict(type='ADE20KDataset', data_root=str(tmp_path / 'absent'))),
        'train_cfg': dict(type='IterBasedTrainLoop', max_iters=1),
        'optim_wrapper': dict(optimizer=dict(type='SGD', lr=0.1)),
    }
    runner = Runner(
        Echo(),
        work_dir=str(tmp_path / 'work'),
        experiment_name=f'draw_{mode}',
        default_hooks=dict(runtime_info=None, checkpoint=None),
        custom_hooks=[
            dict(type='SegVisualizationHook', draw=True, interval=4, out_dir=str(tmp_path / 'drawn'))
        ],
        visualizer=dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]),
        default_scope='dpt',
        log_level='ERROR',
        **config,
    )
    scores = getattr(runner, mode)()
    assert scores['mIoU'] == 0
    drawn = sorted(path.name for path in (tmp_path / 'drawn').glob('*'))
    recorded = sorted(path.name for path in (tmp_path / 'work').glob('**/vis_image/*'))
    if mode == 'test':
        assert (drawn, recorded) == (['0.png', '4.png'], [])
    else:
        assert (drawn, recorded) == ([], ['val_0_0.png', 'val_4_0.png'])
