# A small DPT that trains from scratch in about a minute on two CPU cores. See tools/quickstart.sh.
_base_ = ['_base_/models/dpt_vit-b16.py', '_base_/datasets/quickstart_96x128.py', '_base_/default_runtime.py']
max_iters = 700
warmup_iters = 30
model = dict(
    data_preprocessor=dict(size=_base_.crop_size, test_cfg=dict(size_divisor=32)),
    backbone=dict(
        img_size=128, patch_size=16, embed_dims=128, num_layers=4, num_heads=4, out_indices=(0, 1, 2, 3)
    ),
    neck=dict(in_channels=128, channels=48, post_process_channels=(32, 48, 64, 96)),
    decode_head=dict(in_channels=48, num_classes=_base_.num_classes),
    loss=dict(class_weight=[0.5, 0.5, 1.5, 1.5, 3.0, 3.0]),
)
total_batch_size = 8
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.999), weight_decay=0.01)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=350)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=350))
