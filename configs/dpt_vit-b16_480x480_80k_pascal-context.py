# Pascal Context, 60 classes: crops, windows, batch size (4 x 4 images) and iterations of MMSegmentation's
# configs, optimiser of the ADE20K recipe. No DPT result is published, and this config has not been trained.
_base_ = [
    '_base_/models/dpt_vit-b16.py',
    '_base_/datasets/pascal_context_480x480.py',
    '_base_/default_runtime.py',
    '_base_/schedules/adamw_80k.py',
]
model = dict(
    # Pad to multiples of 32, so that every pyramid level covers the image exactly.
    data_preprocessor=dict(size=_base_.crop_size, test_cfg=dict(size_divisor=32)),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrain/vit-b16_p16_224-80ecf9dd.pth')),
    decode_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(320, 320)),
)
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
