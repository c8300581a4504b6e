# A small DPT, trained from scratch in about a minute on two CPU cores. See tools/quickstart.sh.
_base_ = ['_base_/models/dpt_vit-b16.py', '_base_/datasets/quickstart_96x128.py', '_base_/default_runtime.py']
max_iters = 300
warmup_iters = 20
model = dict(
    data_preprocessor=dict(size=_base_.crop_size, test_cfg=dict(size_divisor=16)),
    backbone=dict(
        img_size=128, patch_size=8, embed_dims=96, num_layers=4, num_heads=3, out_indices=(0, 1, 2, 3)
    ),
    neck=dict(in_channels=96, channels=32, post_process_channels=(16, 32, 64, 64)),
    decode_head=dict(in_channels=32, channels=32, num_classes=_base_.num_classes),
)
total_batch_size = 8
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.01)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
