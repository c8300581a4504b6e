# CamVid with a pretrained ViT-S/14 on a CPU, in under an hour on two cores: narrower decoder, smaller crops,
# no auxiliary head and bf16. The backbone is frozen, because so few steps would only harm its features.
_base_ = ['dpt_vit-s14_364x476_4k_camvid.py']
crop_size = (252, 336)
max_iters = 2800
warmup_iters = 50
# Poles are three pixels wide; enlarging the image helps the patches to resolve them.
test_scale = (720, 540)  # (width, height), 1.5 times the image size
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(drop_path_rate=0.0, frozen_stages=12),
    neck=dict(channels=96, post_process_channels=(48, 96, 192, 384)),
    decode_head=dict(in_channels=96),
    auxiliary_heads=None,
    # sqrt(median class frequency / class frequency), with frequencies of pixels in the training images.
    loss=dict(class_weight=[0.52, 0.44, 2.14, 0.38, 1.0, 0.68, 1.96, 2.0, 0.87, 2.65, 3.92]),
)
total_batch_size = 4
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(1.0, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=test_scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_ratios = (0.75, 1.0)  # of test_scale
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(int(test_scale[0] * r), int(test_scale[1] * r)), keep_ratio=True)
                for r in tta_ratios
            ],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(lr=2e-3),  # high, because the decoder starts from random weights and trains for few steps
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(fp16=True)  # bfloat16 on a CPU
test_cfg = dict(fp16=True)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=700))
