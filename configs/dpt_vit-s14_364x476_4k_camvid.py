# CamVid with a pretrained ViT-S/14 on one GPU: the backbone's learning rate is 1/20 of the decoder's, norms
# and biases of the decoder have no weight decay, and an auxiliary head uses the penultimate fusion map.
_base_ = ['_base_/models/dpt_vit-s14.py', '_base_/datasets/camvid_480x360.py', '_base_/default_runtime.py']
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='pretrain/vit_small_patch14_timm_fp16.pth'),
        drop_path_rate=0.1,
    ),
    decode_head=dict(num_classes=_base_.num_classes),
    auxiliary_heads=[dict(type='FCNHead', in_channels=256, num_classes=_base_.num_classes)],
    auxiliary_loss=dict(type='CrossEntropyLoss', loss_weight=0.2, avg_non_ignore=True),
)
total_batch_size = 16
max_iters = 4000
warmup_iters = 200
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01, fused=True),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            'backbone.pos_embed': dict(lr_mult=0.05, decay_mult=0.0),
            'backbone.cls_token': dict(lr_mult=0.05, decay_mult=0.0),
            'backbone': dict(lr_mult=0.05),
        },
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=500))
