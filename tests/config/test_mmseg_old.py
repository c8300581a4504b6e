"""Configs of MMSegmentation 0.x become those of 1.x that mean the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from dpt.config.load import load_config
from dpt.registry import PARAM_SCHEDULERS

NORM = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)
TRAIN: list[dict] = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='Resize', img_scale=(2048, 512), ratio_range=(0.5, 2.0)),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Normalize', **NORM),
    dict(type='Pad', size=(512, 512), pad_val=0, seg_pad_val=255),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_semantic_seg']),
]
INNER = [
    dict(type='Resize', keep_ratio=True),
    dict(type='RandomFlip'),
    dict(type='Normalize', **NORM),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='Collect', keys=['img']),
]
TEST: list[dict] = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(2048, 512), flip=False, transforms=INNER),
]
NAMES = dict(classes=['a', 'b'], palette=[[0, 0, 0], [9, 9, 9]])


def dataset(folder: str, pipeline: list[dict], **options: Any) -> dict:
    values = dict(type='CustomDataset', reduce_zero_label=True, data_root='data/mine', pipeline=pipeline)
    return dict(values, img_dir=f'img/{folder}', ann_dir=f'ann/{folder}', **NAMES, **options)


def old(**changes: Any) -> dict:
    values = dict(
        model=dict(
            type='EncoderDecoder',
            pretrained=None,
            backbone=dict(
                type='VisionTransformer',
                embed_dims=16,
                num_layers=4,
                num_heads=2,
                out_indices=(0, 1, 2, 3),
                output_cls_token=True,
            ),
            decode_head=dict(
                type='DPTHead',
                channels=8,
                embed_dims=16,
                num_classes=2,
                readout_type='project',
                input_transform='multiple_select',
                in_index=(0, 1, 2, 3),
                loss_decode=dict(type='CrossEntropyLoss'),
            ),
            test_cfg=dict(mode='whole'),
        ),
        data=dict(
            samples_per_gpu=4,
            workers_per_gpu=3,
            train=dict(type='RepeatDataset', times=5, dataset=dataset('train', TRAIN, split='train.txt')),
            val=dataset('val', TEST),
            test=dataset('val', TEST, img_suffix='.png'),
        ),
        optimizer=dict(
            type='AdamW', lr=1e-3, paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(decay_mult=0.0)))
        ),
        optimizer_config=dict(grad_clip=dict(max_norm=1.0)),
        lr_config=dict(
            policy='poly', warmup='linear', warmup_iters=10, warmup_ratio=0.1, power=0.9, by_epoch=False
        ),
        runner=dict(type='IterBasedRunner', max_iters=40),
        checkpoint_config=dict(by_epoch=False, interval=20, max_keep_ckpts=2),
        evaluation=dict(interval=20, metric=['mIoU', 'mDice'], save_best='mIoU', pre_eval=True),
        log_config=dict(interval=7, hooks=[dict(type='TextLoggerHook'), dict(type='WandbLoggerHook')]),
        seed=3,
        workflow=[('train', 1)],
        dist_params=dict(backend='nccl'),
        load_from=None,
        resume_from=None,
    )
    return {**values, **changes}


def loaded(folder: Path, **changes: Any) -> Config:
    (folder / 'old.py').write_text(Config(old(**changes)).pretty_text)
    return load_config(str(folder / 'old.py'), {'data.samples_per_gpu': 2})


def test_data_model_and_hooks_have_their_new_places(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    loader = config.train_dataloader
    assert (loader.batch_size, loader.num_workers, loader.dataset.times) == (2, 3, 5)
    inner = loader.dataset.dataset
    assert inner.type == 'BaseSegDataset'
    assert inner.data_prefix.to_dict() == dict(img_path='img/train', seg_map_path='ann/train')
    assert (inner.ann_file, inner.metainfo.classes) == ('train.txt', ['a', 'b'])
    assert inner.reduce_zero_label
    assert [step.type for step in inner.pipeline] == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'RandomResize',
        'RandomCrop',
        'RandomFlip',
        'PackSegInputs',
    ]
    assert inner.pipeline[2].keep_ratio
    tested = config.test_dataloader.dataset
    assert [step.type for step in tested.pipeline] == [
        'LoadImageFromFile',
        'Resize',
        'LoadAnnotations',  # after resizing: labels keep their size
        'PackSegInputs',
    ]
    assert (tested.pipeline[1].scale, tested.img_suffix) == ((2048, 512), '.png')
    preprocessor = config.model.data_preprocessor
    assert (preprocessor['mean'], preprocessor['size']) == ([1, 2, 3], [512, 512])
    assert preprocessor.bgr_to_rgb
    assert 'test_cfg' not in preprocessor
    assert config.val_evaluator.iou_metrics == ['mIoU', 'mDice']
    assert (config.train_cfg.max_iters, config.train_cfg.val_interval) == (40, 20)
    hooks = config.default_hooks
    assert (hooks.checkpoint.interval, hooks.checkpoint.save_best, hooks.logger.interval) == (20, 'mIoU', 7)
    assert config.randomness.seed == 3
    assert config.optim_wrapper.clip_grad.max_norm == 1.0
    assert any('WandbLoggerHook: dropped' in line for line in config.translated_from_mmseg)


def test_the_rate_is_that_of_mmcv_0(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    model = nn.Linear(1, 1)
    wrapper = build_optim_wrapper(
        model, dict(type='OptimWrapper', optimizer=config.optim_wrapper.optimizer.to_dict())
    )
    schedules = [PARAM_SCHEDULERS.build(dict(one, optimizer=wrapper)) for one in config.param_scheduler]
    rates = []
    for _ in range(40):
        rates.append(wrapper.get_lr()['lr'][0])
        for schedule in schedules:
            schedule.step()
    poly = 1e-3 * (1 - torch.arange(40) / 40) ** 0.9
    factor = 1 - (1 - torch.arange(40) / 10).clamp(min=0) * (1 - 0.1)
    assert torch.allclose(torch.tensor(rates), poly * factor, rtol=1e-5)


def test_trainings_by_epochs_and_mixed_precision_are_kept(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        runner=dict(type='EpochBasedRunner', max_epochs=6),
        evaluation=dict(metric='mIoU'),
        optimizer_config=dict(type='Fp16OptimizerHook', loss_scale=512.0),
        lr_config=dict(policy='CosineAnnealing', min_lr=1e-6, by_epoch=False),
    )
    assert config.train_cfg.to_dict() == dict(type='EpochBasedTrainLoop', val_interval=1, max_epochs=6)
    assert (config.optim_wrapper.type, config.optim_wrapper.loss_scale) == ('AmpOptimWrapper', 512.0)
    (schedule,) = config.param_scheduler
    assert (schedule.type, schedule.end, schedule.convert_to_iter_based) == ('CosineAnnealingLR', 6, True)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(lr_config=dict(policy='cyclic')), "^lr_config.policy='cyclic' cannot be translated"),
        (dict(workflow=[('train', 1), ('val', 1)]), '^workflow='),
        (dict(evaluation=dict(gpu_collect=True)), '^evaluation.gpu_collect=True'),
        (dict(data=dict(old()['data'], val=[dataset('val', TEST)])), '^data.val: a list of data sets'),
        (
            dict(data=dict(old()['data'], val=dataset('val', [dict(TEST[1], flip=True)]))),
            r'^data.val.pipeline.0.flip=True .*--aug-test',
        ),
        (
            dict(data=dict(old()['data'], val=dataset('val', [dict(type='Normalize', mean=[0], std=[1])]))),
            '^data.val.pipeline: its Normalize differs from that of training',
        ),
        (
            dict(data=dict(old()['data'], val=dict(dataset('val', TEST), type='LeafDataset'))),
            r"^data\.val\.type='LeafDataset' .*custom_imports.*BaseSegDataset",
        ),
        (
            dict(data=dict(old()['data'], train=dataset('train', [dict(type='Invert'), *TRAIN]))),
            r"^data\.train\.pipeline\.type='Invert' .*custom_imports",
        ),
    ],
)
def test_values_without_an_equivalent_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path, **changes)
