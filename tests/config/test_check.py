"""Mistakes in a config are reported with file, dotted key and closest name; valid configs pass."""

import copy
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mmcv.transforms import BaseTransform
from mmengine.config import Config

from dpt.config.check import check_config
from dpt.config.load import load_config
from dpt.config.numbers import check_effect
from dpt.config.parts import check_parts, wrong_type
from dpt.datasets import BaseSegDataset, CamVidDataset
from dpt.registry import DATASETS, HOOKS, MODELS, OPTIMIZERS, PARAM_SCHEDULERS, TRANSFORMS

ROOT = Path(__file__).resolve().parent.parent.parent / 'configs'
CAMVID = str(ROOT / 'dpt_vit-s14_364x476_4k_camvid.py')
NO_WEIGHTS = {'model.backbone.init_cfg': None}
CAMVID_CLASSES = CamVidDataset.METAINFO['classes']
PIPELINE = 'train_dataloader.dataset.pipeline'


@functools.cache
def _camvid() -> Config:
    return load_config(CAMVID, NO_WEIGHTS)


def camvid(**options: Any) -> Config:
    config = copy.deepcopy(_camvid())
    config.merge_from_dict(options)
    return config


def reported(task: str = 'train', **options: Any) -> str:
    """Return the error for CamVid's config with these options, without the file name."""
    with pytest.raises(ValueError, match=re.escape(CAMVID)) as caught:
        check_config(camvid(**options), task)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f'{CAMVID}: ') for line in lines)
    return '\n'.join(line.removeprefix(f'{CAMVID}: ') for line in lines)


@pytest.mark.parametrize('task', ['train', 'test'])
@pytest.mark.parametrize('path', sorted(ROOT.glob('*.py')), ids=lambda path: path.stem)
def test_shipped_configs_pass(path: Path, task: str) -> None:
    config = load_config(str(path), NO_WEIGHTS)
    config.pop('load_from', None)
    before = config.pretty_text
    check_config(config, task)
    assert config.pretty_text == before


@pytest.mark.parametrize(
    ('option', 'value', 'expected'),
    [
        (
            'model.backbone.embed_dim',
            384,
            "VisionTransformer has no argument 'embed_dim'; did you mean embed_dims?",
        ),
        ('model.decode_head.norm_cfg', None, "DPTHead has no argument 'norm_cfg'"),
        (
            'model.decode_head.type',
            'DPTHed',
            "unknown model 'DPTHed': import the module that defines it with custom_imports; did you",
        ),
        ('model.data_preprocessor.pad_value', 0, 'did you mean pad_val?'),
        ('val_dataloader.dataset', None, 'this key is missing'),
        ('train_dataloader.batchsize', 2, 'unknown key; did you mean batch_size?'),
        ('train_dataloader.num_workers', '4', "'4' is not an integer >= 0"),
        ('train_dataloader.sampler.shufle', True, 'did you mean shuffle?'),
        ('train_dataloader.dataset.img_sufix', '.png', 'CamVidDataset has no argument'),
        (f'{PIPELINE}.3.cat_max_ration', 0.7, 'did you mean cat_max_ratio?'),
        (
            f'{PIPELINE}.2.keep_ration',
            True,
            "RandomResize has no argument 'keep_ration'; did you mean keep_ratio?",
        ),
        (f'{PIPELINE}.4.type', 'RandomFlop', 'did you mean RandomFlip?'),
        ('model.backbone.type', 'TIMMBackbone', 'did you mean TimmBackbone?'),
        ('model.loss.sampler.type', 'OHEMPixelSamplr', 'did you mean OHEMPixelSampler?'),
        (
            'train_dataloader.dataset.type',
            'LEVIRCDDataset',
            "custom_imports; for other data use type='BaseSegDataset' with metainfo=dict(classes=",
        ),
        ('tta_pipeline.1.transforms.0.0.scal', (4, 4), 'did you mean scale?'),
        ('optim_wrapper.optimizer.lr', 'abc', "'abc' is str, but AdamW takes float | Tensor"),
        ('optim_wrapper.optimizer.type', 'AdmaW', 'did you mean AdamW?'),
        ('optim_wrapper.clip_grads', {}, 'did you mean clip_grad?'),
        ('optim_wrapper.paramwise_cfg.norm_decay', 0, 'did you mean norm_decay_mult?'),
        ('optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mul', 1, 'did you mean lr_mult?'),
        ('param_scheduler.1.powr', 1, 'did you mean power?'),
        ('train_cfg.max_iter', 9, 'did you mean max_iters?'),
        ('train_cfg.max_iters', 'many', "'many' is str, but IterBasedTrainLoop takes int"),
        ('train_cfg.max_iters', 0, '0 is not an integer >= 1'),
        ('train_cfg.max_iters', None, 'None, but IterBasedTrainLoop takes int'),
        ('model.data_preprocessor.mean', None, 'None, but SegDataPreProcessor takes Sequence[float]'),
        ('train_cfg.val_interval', 0, '0 is not an integer >= 1'),
        ('default_hooks.logger.interval', 0, '0 is not an integer >= 1'),
        ('randomness.seed', '7', "'7' is not an integer >= 0"),
        ('val_dataloader.drop_last', True, 'an evaluation must cover all images'),
        ('model.loss.class_weight', [1.0, -1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 'weights must be 0 or more'),
        ('model.loss.class_weight', [0.0] * 11, 'and not all 0'),
        ('load_from', str(ROOT), 'not a file, expected a checkpoint, or a folder with one'),
        ('default_hooks.checkpoint.intervall', 9, 'did you mean interval?'),
        ('default_hooks.logger.type', 'LogerHook', 'did you mean LoggerHook?'),
        ('val_evaluator.iou_metric', ['mIoU'], 'did you mean iou_metrics?'),
        ('visualizer.vis_backends.0.type', 'LocalBackend', 'did you mean LocalVisBackend?'),
        ('env_cfg.mp_cfg.opencv_threads', 0, 'did you mean opencv_num_threads?'),
        ('model.decode_head.in_channels', 99, '99, but model.neck.channels is'),
        ('model.auxiliary_heads.0.in_channels', 99, '99, but model.neck.channels is'),
        ('model.auxiliary_heads.0.in_index', 4, '4, but model.neck returns 4 maps'),
        ('model.neck.in_channels', 99, '99, but model.backbone.embed_dims is 384'),
        ('optim_wrapper.optimizer.type', 'adamw', 'did you mean AdamW?'),
        (
            'val_dataloader.dataset.reduce_zero_label',
            True,
            'True, but train_dataloader.dataset, whose masks are in',
        ),
        ('log_level', 'INF', 'did you mean INFO?'),
        ('randomness', None, 'None is not allowed: remove this key'),
        ('optim_wrapper.clip_grad.max_norm', 0, '0 must be above 0; set clip_grad=None to not clip'),
        ('model.decode_head.dropout_ratio', 1.0, 'drops everything, so nothing is trained'),
        ('total_batch_size', 'all', "'all' is not an integer >= 1"),
    ],
)
def test_a_mistake_in_any_part_is_reported_with_its_key(option: str, value: object, expected: str) -> None:
    (line,) = reported(**{option: value}).splitlines()
    assert line.startswith(f'{option}: ')
    assert expected in line


def test_a_model_needs_a_loss_with_an_effect() -> None:
    without = {'model.loss': dict(loss_weight=0)}
    check_config(camvid(**without), 'train')  # auxiliary heads are trained
    distilled = Config(dict(model=dict(type='Distilled', loss=dict(loss_weight=0))))
    assert not list(check_effect(distilled))  # a model of one's own may have other losses
    assert reported(**without, **{'model.auxiliary_heads': None}) == (
        'model.loss: loss_weight=0 for every loss, so nothing is trained: set it above 0'
    )


def test_an_assertion_of_a_transform_is_quoted() -> None:
    line = reported(**{f'{PIPELINE}.4.prob': 1.5})
    assert line == f'{PIPELINE}.4: assert 0 <= prob <= 1 failed in mmcv/transforms/processing.py'


@pytest.mark.parametrize(
    ('option', 'name'),
    [
        ('model.backbone.type', 'SwinTransformer'),
        ('model.decode_head.type', 'PSPHead'),
        (f'{PIPELINE}.4.type', 'RandomRotFlip'),
        (f'{PIPELINE}.4.type', 'RandomMosaic'),
    ],
)
def test_other_parts_of_mmsegmentation_get_no_misleading_hint(option: str, name: str) -> None:
    message = reported(**{option: name})
    assert repr(name) in message
    assert 'did you mean' not in message


def test_loss_may_leave_out_a_class() -> None:
    loss = [dict(type='CrossEntropyLoss'), dict(type='DiceLoss', ignore_index=0)]
    check_config(camvid(**{'model.loss': loss}), 'train')
    loss[1]['ignore_index'] = 12
    assert reported(**{'model.loss': loss}).startswith('model.loss.1.ignore_index: 12, but train')


@pytest.mark.parametrize(
    ('option', 'value', 'expected'),
    [
        ('model.decode_head.num_classes', 12, '12, but train_dataloader.dataset has 11 classes'),
        ('model.auxiliary_heads.0.num_classes', 150, '150, but train_dataloader.dataset has 11 classes'),
        ('model.loss.class_weight', [1.0, 2.0], '2 weights, but train_dataloader.dataset has 11 classes'),
        (
            'model.data_preprocessor.size',
            (365, 476),
            '(365, 476) is not a multiple of model.backbone.patch_size=14',
        ),
        (
            f'{PIPELINE}.3.crop_size',
            (378, 476),
            '(378, 476) is larger than model.data_preprocessor.size=(364, 476)',
        ),
        ('load_from', 'gone.pth', "gone.pth does not exist; see 'Pretrained weights' in docs/configs.md"),
        ('val_dataloader.dataset.max_bad_samples', 2, 'only training may skip images'),
    ],
)
def test_contradicting_values_are_reported(option: str, value: object, expected: str) -> None:
    (line,) = reported(**{option: value}).splitlines()
    assert line.startswith(f'{option}: {expected}')


@pytest.mark.parametrize(
    ('option', 'value', 'expected'),
    [
        ('model.ignore_index', 12, '12, but train_dataloader.dataset has ignore_index=255'),
        ('model.data_preprocessor.seg_pad_val', 0, '0, but train_dataloader.dataset has ignore_index=255'),
        ('val_evaluator.ignore_index', 12, '12, but val_dataloader.dataset has ignore_index=255'),
        (f'{PIPELINE}.3.ignore_index', 0, '0, but train_dataloader.dataset has ignore_index=255'),
        (
            f'{PIPELINE}.1.reduce_zero_label',
            True,
            'True, but train_dataloader.dataset has reduce_zero',
        ),
        (
            'val_dataloader.dataset.metainfo',
            dict(classes=CAMVID_CLASSES[::-1]),
            'class 0 is',
        ),
    ],
)
def test_facts_of_the_data_set_may_not_be_contradicted(option: str, value: object, expected: str) -> None:
    (line,) = reported(**{option: value}).splitlines()
    assert line.startswith(f'{option}{".classes" if option.endswith("metainfo") else ""}: {expected}')


def test_the_void_label_is_given_once() -> None:
    options: dict = {f'{loader}_dataloader.dataset.ignore_index': 11 for loader in ('train', 'val', 'test')}
    check_config(camvid(**options), 'train')
    check_config(camvid(**options), 'test')
    check_config(camvid(**{'val_evaluator.ignore_index': 0}), 'train')  # leaves class 0 out of the scores


def test_without_padding_the_crop_must_fit_the_patch_size() -> None:
    options = {'model.data_preprocessor.size': None, f'{PIPELINE}.3.crop_size': (100, 140)}
    assert reported(**options).startswith(f'{PIPELINE}.3.crop_size: (100, 140) is not a multiple of model')
    check_config(camvid(**{**options, 'model.data_preprocessor.size_divisor': 28}), 'train')
    options['model.data_preprocessor.size_divisor'] = 32
    assert reported(**options).startswith('model.data_preprocessor.size_divisor: 32 is not a multiple')


def test_test_sizes_must_fit_the_patch_size() -> None:
    slide = dict(mode='slide', crop_size=(100, 100), stride=(50, 50))
    assert reported('test', **{'model.test_cfg': slide}).startswith('model.test_cfg.crop_size: (100, 100)')
    option = 'model.data_preprocessor.test_cfg.size_divisor'
    assert reported('test', **{option: 32}).startswith(f'{option}: 32 is not a multiple')


def test_missing_weights_are_reported_for_training_only() -> None:
    config = camvid()
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='gone/vit.pth')
    with pytest.raises(
        ValueError, match=r'model\.backbone\.init_cfg\.checkpoint: gone/vit\.pth does not exist'
    ):
        check_config(config, 'train')
    check_config(config, 'test')
    config.model.backbone.init_cfg.checkpoint = str(ROOT)
    with pytest.raises(ValueError, match=r'init_cfg\.checkpoint: .* or a folder with one checkpoint'):
        check_config(config, 'train')
    config.load_from = __file__  # replaces the weights
    check_config(config, 'train')
    config.load_from = None
    config.model.backbone.init_cfg.checkpoint = 'https://example.org/vit.pth'
    check_config(config, 'train')


def test_a_missing_checkpoint_to_resume_is_reported() -> None:
    assert reported(resume=True, load_from='gone.pth') == '--resume: gone.pth does not exist'


def test_missing_data_and_weights_are_reported_together() -> None:
    options = {'data_root': 'gone', 'model.backbone.init_cfg.checkpoint': 'gone/vit.pth'}
    config = load_config(str(ROOT / 'dpt_vit-b16_512x512_160k_ade20k.py'), options)
    with pytest.raises(ValueError, match=r'(?s)gone/vit\.pth does not exist.*ADEChallengeData2016\.zip'):
        check_config(config, 'train')


def test_errors_of_constructors_and_data_sets_have_their_key() -> None:
    line = reported(**{f'{PIPELINE}.3.crop_size': (0, 4)})
    assert line.startswith(
        f'{PIPELINE}.3: crop_size must be a positive integer or (height, width), not (0, 4)'
    )
    line = reported(**{'train_dataloader.dataset.metainfo': dict(classes=['boat'])})
    assert line.startswith("train_dataloader.dataset: CamVidDataset has no class ['boat']")


@pytest.mark.parametrize('step', [0, 1])
def test_decoder_that_is_not_installed_names_its_package(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name, package=None: None)
    line = reported(**{f'{PIPELINE}.{step}.imdecode_backend': 'tifffile'})
    assert line.startswith(f'{PIPELINE}.{step}: ')
    assert line.endswith('which is not installed: pip install tifffile')


def test_file_backend_that_is_not_installed_is_reported() -> None:
    key = f'{PIPELINE}.0.backend_args'
    assert reported(**{key: dict(backend='petrel')}).startswith(f'{key}: Please install petrel_client')


def test_transform_whose_package_is_missing_is_reported() -> None:
    class NeedsPackage(BaseTransform):
        def __init__(self) -> None:
            import package_that_is_not_installed  # noqa: F401

        def transform(self, results: dict) -> dict:
            return results

    TRANSFORMS.register_module(module=NeedsPackage)
    try:
        line = reported(**{PIPELINE: [dict(type='NeedsPackage')]})
    finally:
        TRANSFORMS.module_dict.pop('NeedsPackage')
    assert line == f"{PIPELINE}.0: No module named 'package_that_is_not_installed'"


def test_each_mistake_has_one_line_even_in_shared_pipelines() -> None:
    config = camvid()
    config.test_dataloader.dataset.pipeline = config.val_dataloader.dataset.pipeline
    config.val_dataloader.dataset.pipeline[0].colour_type = 'color'
    config.model.neck.chanels = 3
    with pytest.raises(ValueError, match=re.escape(CAMVID)) as caught:
        check_config(config, 'train')
    keys = [line.split(': ')[1] for line in str(caught.value).splitlines()]
    assert keys == ['val_dataloader.dataset.pipeline.0.colour_type', 'model.neck.chanels']


def test_a_missing_argument_or_type_is_reported() -> None:
    config = camvid()
    del config.model.decode_head['num_classes']
    del config.model.neck['type']
    with pytest.raises(ValueError, match=r"decode_head: DPTHead needs the argument 'num_classes'") as caught:
        check_config(config, 'train')
    assert "model.neck: the key 'type' is missing" in str(caught.value)


@pytest.mark.parametrize(('key', 'meant'), [('optim_wraper', 'optim_wrapper'), ('load_form', 'load_from')])
def test_misspelt_top_level_keys_are_reported(tmp_path: Path, key: str, meant: str) -> None:
    path = tmp_path / 'mine.py'
    text = f"_base_ = [{CAMVID!r}]\n{key} = dict(x=1)\nbase_lr = 3\ndata_root2 = ''\n"
    path.write_text(text)
    config = load_config(str(path), NO_WEIGHTS)
    config.pop(meant)
    with pytest.raises(ValueError, match=f'{re.escape(str(path))}: {key}: .* did you mean {meant}') as caught:
        check_config(config, 'train')
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ('part', 'registry'),
    [
        (dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=2e-4), HOOKS),
        (dict(type='EarlyStoppingHook', monitor='mIoU', patience=3, min_delta=0), HOOKS),
        (dict(type='CheckpointHook', interval=1, save_best='auto', rule='greater'), HOOKS),
        (dict(type='SGD', lr=1, momentum=0.9, nesterov=True), OPTIMIZERS),
        (dict(type='AdamW', lr=1e-3, betas=[0.9, 0.999], fused=True), OPTIMIZERS),
        (
            dict(type='CosineAnnealingLR', T_max=9, by_epoch=True, convert_to_iter_based=True),
            PARAM_SCHEDULERS,
        ),
        (dict(type='MultiStepLR', milestones=[1, 2], begin=0, end=1e5), PARAM_SCHEDULERS),
        (dict(type='OneCycleLR', eta_max=1e-2, total_steps=90), PARAM_SCHEDULERS),
        (dict(type='RandomChoiceResize', scales=[(4, 4)], keep_ratio=True), TRANSFORMS),
        (dict(type='RandomFlip', prob=[0.3, 0.3], direction=['horizontal', 'vertical']), TRANSFORMS),
        (dict(type='RandomApply', transforms=[dict(type='RandomFlip', prob=1)], prob=0.5), TRANSFORMS),
        (dict(type='Pad', size_divisor=32, pad_val=dict(img=0, seg=255)), TRANSFORMS),
        (dict(type='mmengine.optim.PolyLR', power=1), PARAM_SCHEDULERS),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_valid_parts_of_mmengine_pass(part: dict, registry: object) -> None:
    assert list(check_parts(part, 'part', registry)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('value', 'annotation', 'wrong'),
    [
        ('abc', float, True),
        ('abc', int | None, True),
        ('abc', str | int, False),
        ('abc', Any, False),
        ('abc', Path, False),
        (1, float, False),
        (0.5, int, True),
        (1e5, int, False),
        (1, bool, False),
        (3, str, True),
        (3, dict, True),
        (3, tuple[int, int], False),
        ([1, 2], tuple[int, int], False),
        ([1, 2], float, True),
        (dict(a=1), int, True),
        (dict(a=1), dict | None, False),
        (None, int, False),
        (float('inf'), int, True),
    ],
)
def test_only_definite_contradictions_of_an_annotation_are_reported(
    value: object, annotation: Any, wrong: bool
) -> None:
    assert wrong_type(value, annotation) is wrong


class UsersPart:
    """A user's part with a vague annotation, nested parts and a pretrained head."""

    def __init__(self, size: int = 1, *, embed: object = None, num_classes: int = 0, patch_size: int = 16):
        self.size, self.embed, self.num_classes, self.patch_size = size, embed, num_classes, patch_size


class UsersData(BaseSegDataset):
    """A user's data set whose pipeline argument has another name."""

    def __init__(self, folder: str, transforms: list):
        super().__init__(data_root=folder, pipeline=transforms)


@pytest.fixture
def users_parts() -> Iterator[None]:
    MODELS.register_module(module=UsersPart)
    DATASETS.register_module(module=UsersData)
    yield
    MODELS.module_dict.pop('UsersPart')
    DATASETS.module_dict.pop('UsersData')


@pytest.mark.usefixtures('users_parts')
@pytest.mark.parametrize('patch_size', [7, [7, 3, 3, 3]])
def test_values_inside_user_parts_are_not_checked(patch_size: object) -> None:
    config = camvid()
    backbone = dict(type='UsersPart', size=[4, 4], embed=dict(type='sine'), num_classes=1000)
    config.model.backbone = {**backbone, 'patch_size': patch_size}
    transforms = [dict(type='LoadImageFromFile')]
    config.train_dataloader.dataset = dict(type='UsersData', folder='data', transforms=transforms)
    check_config(config, 'train')
    config.model.backbone['sise'] = 3
    with pytest.raises(ValueError, match='backbone.sise: UsersPart has no argument .* did you mean size'):
        check_config(config, 'train')


def test_a_missing_model_or_data_set_type_is_reported() -> None:
    config = camvid()
    config.model = None
    del config.val_dataloader.dataset['type']
    with pytest.raises(ValueError, match='model: this key is missing') as caught:
        check_config(config, 'train')
    assert "val_dataloader.dataset: the key 'type' is missing" in str(caught.value)
