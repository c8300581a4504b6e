# A small DPT for depth that trains from scratch in about a minute on two CPU cores. See tools/quickstart.sh.
_base_ = ['_base_/datasets/quickstart_depth_128x160.py', '_base_/depth_runtime.py']
max_iters = 300
warmup_iters = 30
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        size=(128, 160),
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='VisionTransformer',
        img_size=(128, 160),
        patch_size=16,
        embed_dims=128,
        num_layers=4,
        num_heads=4,
        out_indices=(0, 1, 2, 3),
        output_cls_token=True,
    ),
    neck=dict(
        type='DPTNeck', in_channels=128, channels=48, post_process_channels=(32, 48, 64, 96), norm='BN'
    ),
    decode_head=dict(type='DepthHead', in_channels=48, output='sigmoid', max_depth=_base_.max_depth),
    loss=dict(type='SiLogLoss'),
    min_depth=_base_.min_depth,
    max_depth=_base_.max_depth,
    test_cfg=dict(mode='whole'),
)
total_batch_size = 8
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.999), weight_decay=0.01)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=150)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=150))
