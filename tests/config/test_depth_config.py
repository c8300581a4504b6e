"""Configs of depth whose results would be wrong without an error are reported before training."""

import copy
from pathlib import Path

import pytest
from mmcv.transforms import BaseTransform
from mmengine.config import Config, ConfigDict

from dpt.config.check import check_config
from dpt.config.load import load_config
from dpt.registry import TRANSFORMS

CONFIG = Path(__file__).resolve().parent.parent.parent / 'configs' / 'quickstart.py'
LOAD, DEPTH, PACK = (
    dict(type=name) for name in ('LoadImageFromFile', 'LoadDepthAnnotation', 'PackSegInputs')
)
RESIZE, FLIP = dict(type='Resize', scale=(150, 100)), dict(type='RandomFlip', prob=0.5)
TRAIN, TEST = 'train_dataloader.dataset.pipeline', 'test_dataloader.dataset.pipeline'


def config_of(train: list | None = None, test: list | None = None) -> Config:
    config = load_config(str(CONFIG))
    model = config.model
    for key in ('auxiliary_heads', 'auxiliary_loss', 'loss', 'ignore_index'):
        model.pop(key, None)
    channels = model.pop('decode_head').in_channels
    head = dict(type='DepthHead', in_channels=channels, output='sigmoid', max_depth=10)
    model.update(type='DepthEstimator', decode_head=ConfigDict(head))
    model.data_preprocessor.update(size=None, test_cfg=None)
    pipelines = dict(
        train_dataloader=train or [LOAD, DEPTH, RESIZE, FLIP, PACK],
        val_dataloader=test or [LOAD, RESIZE, DEPTH, PACK],
        test_dataloader=test or [LOAD, RESIZE, DEPTH, PACK],
    )
    for loader, pipeline in pipelines.items():
        dataset = dict(type='BaseDepthDataset', data_root='data/own', pipeline=copy.deepcopy(pipeline))
        config[loader].dataset = ConfigDict(dataset)
    config.tta_model = ConfigDict(type='DepthTTAModel')
    config.tta_pipeline = None
    config.val_evaluator = config.test_evaluator = ConfigDict(type='DepthMetric', max_depth_eval=10)
    return config


def problems(config: Config, task: str = 'train', **options: object) -> str:
    config.merge_from_dict(options)
    try:
        check_config(config, task)
    except ValueError as error:
        return str(error)
    return ''


@pytest.mark.parametrize('task', ['train', 'test'])
def test_config_of_depth_passes(task: str) -> None:
    assert problems(config_of(), task) == ''


@pytest.mark.parametrize(
    'steps',
    [
        [dict(type='RandomRotate', prob=0.5, degree=2.5), dict(type='RandomCrop', crop_size=(80, 80))],
        [dict(type='RandomCutOut', prob=0.5, n_holes=5, cutout_ratio=(0.3, 0.3))],
        [dict(type='RandomResize', scale=(150, 100), ratio_range=(0.5, 2.0)), dict(type='ScaleDepth')],
        [dict(type='KBCrop'), dict(type='RandomCrop', crop_size=(80, 80))],
        [dict(type='NYUCrop'), dict(type='ColorAug', prob=0.5)],
        [dict(type='Pad', size_divisor=32), dict(type='PhotoMetricDistortion')],
    ],
)
def test_transforms_that_keep_depth_in_step_pass(steps: list) -> None:
    keep = dict(type='RandomResize', scale=(150, 100), ratio_range=(0.5, 2.0), keep_ratio=True)
    steps = [keep if step['type'] == 'RandomResize' else step for step in steps]
    assert problems(config_of([LOAD, DEPTH, *steps, FLIP, PACK])) == ''


@TRANSFORMS.register_module()
class TurnImage(BaseTransform):
    """A user's transform that does not know depth."""

    def transform(self, results):
        return dict(results, img=results['img'][::-1].copy())


@TRANSFORMS.register_module()
class FillMaps(BaseTransform):
    """A user's transform that treats depth as labels."""

    def transform(self, results):
        for name in results['seg_fields']:
            results[name] = results[name].copy()
            results[name][:9] = 255
        return results


@TRANSFORMS.register_module()
class EraseDepth(BaseTransform):
    """A user's transform that loses depth."""

    def transform(self, results):
        return dict(results, gt_depth_map=results['gt_depth_map'] * 0)


@pytest.mark.parametrize(
    ('train', 'test', 'words'),
    [
        ([LOAD, DEPTH, dict(type='TurnImage'), PACK], None, f'{TRAIN}.2: TurnImage moves the image, but not'),
        (
            [LOAD, RESIZE, DEPTH, PACK],
            None,
            f'{TRAIN}.2: LoadDepthAnnotation loads depth after the image',
        ),
        ([LOAD, DEPTH, dict(type='FillMaps'), PACK], None, f'{TRAIN}.2: FillMaps writes 255 into depth'),
        ([LOAD, DEPTH, dict(type='EraseDepth'), PACK], None, f'{TRAIN}.2: EraseDepth leaves no depth'),
        ([LOAD, RESIZE, PACK], None, f'{TRAIN}.2: no transform loads depth: put LoadDepthAnnotation'),
        (None, [LOAD, DEPTH, RESIZE, PACK], 'pipeline.3: depth is resized, cropped or flipped, but'),
        (None, [LOAD, DEPTH, dict(FLIP, prob=1.0), PACK], 'pipeline.3: depth is resized, cropped or flipped'),
    ],
)
def test_depth_out_of_step_is_refused(train, test, words: str) -> None:
    found = problems(config_of(train, test))
    assert words in found
    assert len(found.splitlines()) == 1


def test_crop_of_the_original_image_can_be_tested() -> None:
    crop = dict(type='KBCrop')
    for order in ([crop, DEPTH, RESIZE], [DEPTH, crop, RESIZE]):
        assert 'depth is resized' in problems(config_of(test=[LOAD, *order, PACK]), 'test')
    assert problems(config_of(test=[LOAD, crop, RESIZE, DEPTH, PACK]), 'test') == ''


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (
            {'val_evaluator.max_depth_eval': 80},
            'val_evaluator.max_depth_eval: 80, but model.decode_head',
        ),
        (
            {'val_evaluator': dict(type='IoUMetric', _delete_=True)},
            'IoUMetric scores labels, but model.type=Depth',
        ),
        (
            {'tta_model.type': 'SegTTAModel'},
            'tta_model.type: SegTTAModel, but model.type=DepthEstimator needs',
        ),
        (
            {'model.decode_head.relative': True, 'model.decode_head.output': 'relu'},
            "predicts inverse depth without a scale: set inverse=True and alignment='least_squares",
        ),
        (
            {'val_evaluator.inverse': True, 'val_evaluator.alignment': 'median'},
            'val_evaluator: model.decode_head.relative=False, so the model predicts depth: remove inverse',
        ),
        (
            {
                'model.decode_head.relative': True,
                'model.loss': dict(type='ScaleShiftInvariantLoss', invert_target=False),
            },
            'val_evaluator: DepthMetric compares depth, but ScaleShiftInvariantLoss(invert_target=False)',
        ),
        ({f'{TRAIN}.1.depth_rescale': 1}, 'LoadDepthAnnotation has no argument'),
        (
            {'train_dataloader.dataset.depth_rescale_factor': 0},
            'depth_rescale_factor=0 must be a number above 0',
        ),
    ],
)
def test_contradictions_are_reported(options: dict, words: str) -> None:
    assert words in problems(config_of(), **options)


def test_labels_do_not_train_depth() -> None:
    config = config_of()
    config.train_dataloader.dataset = load_config(str(CONFIG)).train_dataloader.dataset
    assert 'has labels, but model.type=DepthEstimator needs depth' in problems(config)
