# Cityscapes: crops, windows, batch size (8 x 1 images) and iterations of MMSegmentation's SETR, optimiser of
# the ADE20K recipe. No DPT result is published, and this config has not been trained.
_base_ = [
    '_base_/models/dpt_vit-b16.py',
    '_base_/datasets/cityscapes_768x768.py',
    '_base_/default_runtime.py',
    '_base_/schedules/adamw_80k.py',
]
model = dict(
    # Pad to multiples of 32, so that every pyramid level covers the image exactly.
    data_preprocessor=dict(size=_base_.crop_size, test_cfg=dict(size_divisor=32)),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrain/vit-b16_p16_224-80ecf9dd.pth')),
    decode_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(512, 512)),
)
total_batch_size = 8
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
