"""MMSegmentation's configs and checkpoints in the tools, as they are."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from outputs import result_of

CONFIG = """
default_scope = 'mmseg'
norm_cfg = dict(type='SyncBN', requires_grad=True)
data_root = {data!r}
classes = ('sky', 'ground', 'tree', 'house', 'sun', 'car')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(64, 64)),
    pretrained='missing/vit.pth',
    backbone=dict(
        type='VisionTransformer', img_size=64, embed_dims=16, num_layers=4, num_heads=2,
        out_indices=(0, 1, 2, 3), final_norm=False, with_cls_token=True, output_cls_token=True),
    decode_head=dict(
        type='DPTHead', in_channels=(16,) * 4, channels=8, embed_dims=16, post_process_channels=[4, 8, 8, 8],
        num_classes=6, readout_type='project', input_transform='multiple_select', in_index=(0, 1, 2, 3),
        norm_cfg=norm_cfg, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=None,
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=True)]
train_pipeline = load + [
    dict(type='RandomResize', scale=(160, 120), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(64, 64), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')]
test_pipeline = [
    load[0], dict(type='Resize', scale=(160, 120), keep_ratio=True), load[1], dict(type='PackSegInputs')]
tta_pipeline = [load[0], dict(type='TestTimeAug', transforms=[
    [dict(type='Resize', scale_factor=r, keep_ratio=True) for r in (0.75, 1.0)],
    [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)],
    [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])]
def dataset(part, pipeline):
    return dict(
        type='BaseSegDataset', metainfo=dict(classes=classes), reduce_zero_label=True, data_root=data_root,
        data_prefix=dict(img_path='images/' + part, seg_map_path='annotations/' + part), pipeline=pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dataset('training', train_pipeline))
val_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dataset('validation', test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(decay_mult=0.), norm=dict(decay_mult=0.))))
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=4, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
    sampler_seed=dict(type='DistSamplerSeedHook'), visualization=dict(type='SegVisualizationHook'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='nccl'))
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
tta_model = dict(type='SegTTAModel')
"""


@pytest.fixture(scope='module')
def config(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('mmseg') / 'theirs.py'
    path.write_text(CONFIG.replace('{data!r}', repr(str(tiny_config.parent / 'data'))))
    return path


@pytest.fixture(scope='module')
def trained(run_tool, config: Path) -> Path:
    """The work directory of two iterations; ``stdout.log`` holds what was printed."""
    work_dir = config.parent / 'trained'
    options = ['--cfg-options', 'model.pretrained=None', 'model.backbone.drop_path_rate=0.1']
    result = run_tool('tools/train.py', config, '--work-dir', work_dir, *options)
    (work_dir / 'stdout.log').write_text(result.stdout + result.stderr)
    return work_dir


def test_their_config_trains_and_resumes(run_tool, trained: Path, config: Path) -> None:
    log = (trained / 'stdout.log').read_text()
    assert 'config translated from MMSegmentation' in log
    assert 'model.decode_head: split into model.neck' in log
    assert 'Iter(train) [2/2]' in log
    assert 'Iter(val)' in log
    assert 'images/s' in log
    assert list(trained.glob('run_info_*.json'))
    hooks = Config.fromfile(trained / 'theirs.py').default_hooks
    assert {'class_check', 'stop_signal', 'sync_buffers', 'non_finite', 'utilization'} <= set(hooks)
    options = ['--cfg-options', 'model.pretrained=None', 'train_cfg.max_iters=4']
    result = run_tool('tools/train.py', config, '--work-dir', trained, '--resume', *options)
    assert 'Iter(train) [3/4]' in result.stdout + result.stderr


def test_their_checkpoint_is_tested_and_trained_from_as_it_is(
    call, run_tool, trained: Path, config: Path
) -> None:
    own, theirs = trained / 'own.pth', trained / 'theirs.pth'
    content = torch.load(trained / 'iter_2.pth', weights_only=True)
    content['state_dict']['backbone.patch_embed.projection.bias'].zero_()
    torch.save(content, own)
    del content['state_dict']['backbone.patch_embed.projection.bias']  # as MMSegmentation 1.2 has it
    content['state_dict'] = {
        re.sub(r'^neck\.', 'decode_head.', key): value for key, value in content['state_dict'].items()
    }
    hub = MessageHub('test_mmseg')  # the log that its runner keeps
    hub.update_scalar('train/loss', 0.5)
    torch.save({**content, 'message_hub': hub.state_dict()}, theirs)
    for extra in ([], ['--aug-test']):
        arguments = ['--work-dir', trained / 'test', *extra]
        outputs = [call('test', config, path, *arguments)[1] for path in (own, theirs)]
        assert result_of(outputs[0]) == result_of(outputs[1])
        assert 'theirs.pth (MMSegmentation DPT keys; patch bias missing: set to zero)' in outputs[1]
    options = ['--cfg-options', f'load_from={theirs}', 'train_cfg.max_iters=1']
    result = run_tool('tools/train.py', config, '--work-dir', trained / 'from', *options)
    assert 'patch bias missing: set to zero' in result.stdout + result.stderr


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ((), 'init_cfg.checkpoint: missing/vit.pth does not exist'),
        (
            ('--cfg-options', 'model.decode_head.align_corners=True'),
            'error: model.decode_head.align_corners=True cannot be translated',
        ),
    ],
)
def test_mistakes_are_named_as_in_their_config(call, config: Path, tmp_path: Path, options, message) -> None:
    status, _, error = call('train', config, '--work-dir', tmp_path / 'work', *options)
    assert status == 1
    assert message in error
