"""Pipelines whose results would be wrong without an error are reported before training."""

import copy
from pathlib import Path

import pytest
from mmcv.transforms import BaseTransform

from dpt.config.check import check_config
from dpt.config.load import load_config
from dpt.registry import TRANSFORMS

CONFIG = Path(__file__).resolve().parent.parent.parent / 'configs' / 'quickstart.py'
LOAD, LABELS, PACK = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')
RESIZE = dict(type='Resize', scale=(150, 100), keep_ratio=True)
NORMALIZE = dict(type='Normalize', mean=[123.0, 116.0, 103.0], std=[58.0, 57.0, 57.0])
TEST, TRAIN = 'test_dataloader.dataset.pipeline', 'train_dataloader.dataset.pipeline'


@TRANSFORMS.register_module()
class QuarterTurn(BaseTransform):
    """A user's transform that turns the image and its labels."""

    def transform(self, results):
        for name in ('img', *results['seg_fields']):
            results[name] = results[name].swapaxes(0, 1)[:, ::-1]
        return results


def check(pipeline, task='test', **options):
    config = load_config(str(CONFIG), {'model.data_preprocessor.test_cfg': None})
    key = TEST if task == 'test' else TRAIN
    pipeline = [LOAD, *pipeline, PACK]
    config.merge_from_dict({key: copy.deepcopy(pipeline), 'model.data_preprocessor.size': None, **options})
    check_config(config, task)


@pytest.mark.parametrize(
    'step',
    [
        dict(type='Pad', size_divisor=32),
        dict(type='Pad', size=(2048, 2048)),
        dict(type='CenterCrop', crop_size=(64, 64)),
        dict(type='RandomCrop', crop_size=(90, 140)),
        dict(type='QuarterTurn'),
        dict(type='RandomChoice', transforms=[[dict(type='Pad', size_divisor=32)]]),
        dict(type='RandomRotate', prob=0.01, degree=(20, 30)),
        dict(type='RandomRotate', prob=0.01, degree=(20, 30), auto_bound=True),
        dict(type='RandomCutOut', prob=0.01, n_holes=9, cutout_ratio=(0.5, 0.5)),
    ],
    ids=lambda step: step['type'],
)
def test_geometry_that_cannot_be_undone_is_refused_in_testing(step):
    message = rf'{TEST}\.2: after {step["type"]} predictions cannot be mapped back.*size_divisor=32'
    with pytest.raises(ValueError, match=message) as caught:
        check([RESIZE, step, LABELS])
    assert len(str(caught.value).splitlines()) == 1


def test_albumentations_that_move_the_image_are_refused_in_testing():
    pytest.importorskip('albumentations')
    inner = [dict(type='Rotate', limit=(20, 30), p=0.01)]
    with pytest.raises(ValueError, match=rf'{TEST}\.1: after Albu predictions cannot be mapped back'):
        check([dict(type='Albu', transforms=inner), LABELS])
    check([dict(type='Albu', transforms=[dict(type='RandomBrightnessContrast', p=0.5)]), LABELS])


def test_second_flip_that_hides_the_first_is_refused():
    flips = [dict(type='RandomFlip', prob=1.0, direction=way) for way in ('horizontal', 'vertical')]
    with pytest.raises(ValueError, match=rf'{TEST}\.2: after RandomFlip predictions cannot be mapped back'):
        check([*flips, LABELS])
    tta = [LOAD, dict(type='TestTimeAug', transforms=[[flips[0]], [flips[1]], [LABELS], [PACK]])]
    with pytest.raises(ValueError, match=r'tta_pipeline\.1: after TestTimeAug predictions cannot be mapped'):
        check([RESIZE, LABELS], tta_pipeline=tta)


@pytest.mark.parametrize(
    'steps',
    [
        [RESIZE],
        [dict(type='Resize', scale=(2048, 512), keep_ratio=True, interpolation='nearest')],
        [dict(type='Resize', scale=(640, 480), interpolation='nearest')],
        [dict(type='Resize', scale_factor=0.3, backend='pillow')],
        [dict(type='RandomResize', scale=(128, 64), ratio_range=(0.5, 2.0))],
        [dict(type='ResizeToMultiple', size_divisor=32)],
        [dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical', 'diagonal'])],
        [dict(type='PhotoMetricDistortion')],
        [dict(type='RandomGrayscale', prob=1.0)],
        [dict(type='ResizeShortestEdge', scale=112, max_size=200)],
        [dict(type='CLAHE')],
        [dict(type='AdjustGamma', gamma=0.5)],
        [dict(type='RGB2Gray')],
        [dict(type='Rerange', max_value=200)],
    ],
    ids=lambda steps: steps[0]['type'],
)
def test_geometry_that_is_undone_passes(steps):
    check([*steps, LABELS])


@pytest.mark.parametrize('task', ['train', 'test'])
def test_image_is_normalised_once(task):
    with pytest.raises(ValueError, match=r'pipeline\.2: Normalize normalises the image, and model\.data_pre'):
        check([LABELS, NORMALIZE], task)
    once = {'model.data_preprocessor.mean': [0, 0, 0], 'model.data_preprocessor.std': [1, 1, 1]}
    check([LABELS, NORMALIZE], task, **once)


@pytest.mark.parametrize(
    ('pipeline', 'words'),
    [
        ([LOAD, LABELS, RESIZE], r'2: Resize is the last transform, but that must be PackSegInputs'),
        (
            [LOAD, LABELS, PACK, RESIZE],
            r'3: Resize needs an image: put it after LoadImageFromFile and before',
        ),
        (
            [RESIZE, LOAD, LABELS, PACK],
            r'0: Resize needs an image: put it after LoadImageFromFile and before',
        ),
    ],
)
def test_images_are_loaded_first_and_packed_last(pipeline, words):
    with pytest.raises(ValueError, match=words):
        check([], 'train', **{TRAIN: copy.deepcopy(pipeline)})


@TRANSFORMS.register_module()
class ToUnit(BaseTransform):
    """A user's transform that gives images from 0 to 1."""

    def transform(self, results):
        return dict(results, img=results['img'].astype('float32') / 255)


@pytest.mark.parametrize('task', ['train', 'test'])
def test_statistics_of_0_to_1_need_such_images(task):
    unit = {'model.data_preprocessor.mean': [0.485] * 3, 'model.data_preprocessor.std': [0.229] * 3}
    with pytest.raises(
        ValueError, match=r'model\.data_preprocessor\.std: 0\.229 is meant for images from 0 to 1'
    ):
        check([LABELS], task, **unit)
    check([LABELS, dict(type='ToUnit')], 'test', tta_pipeline=None, **unit)


def test_transforms_fill_masks_with_the_void_label():
    void = {f'{loader}_dataloader.dataset.ignore_index': 7 for loader in ('train', 'val', 'test')}
    with pytest.raises(ValueError, match=rf'{TRAIN}\.2: Pad writes the label 255, .*ignore_index=7'):
        check([LABELS, dict(type='Pad', size_divisor=64)], 'train', **void)
    check([LABELS, dict(type='Pad', size_divisor=64, pad_val=dict(img=0, seg=7))], 'train', **void)


@pytest.mark.parametrize('step', [dict(type='RandomFlip', prob=0.5), RESIZE], ids=lambda step: step['type'])
def test_training_labels_are_loaded_before_the_image_moves(step):
    with pytest.raises(ValueError, match=rf'{TRAIN}\.2: LoadAnnotations loads the labels after the image'):
        check([step, LABELS], 'train')
    check([LABELS, step], 'train')
