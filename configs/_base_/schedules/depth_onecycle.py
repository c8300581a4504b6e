# OneCycle of the Monocular-Depth-Estimation-Toolbox (configs/dpt, configs/_base_/schedules/schedule_24x.py):
# up to 1e-4 in the first 30 % of 24 epochs, momentum from 0.95 to 0.85 and back. As published, the lower rate
# of the backbone (lr_mult=0.1) has no effect, because mmcv's OneCycle sets one rate for all parameters, and
# decay applies to norms, because the key 'norm' matches none of the ViT's. Configs for other data
# set the number of iterations.
total_batch_size = 16
max_iters = 36360  # 24 epochs of NYUv2
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.95, 0.999), weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=35, norm_type=2),
    paramwise_cfg=dict(custom_keys={'pos_embed': dict(decay_mult=0.0), 'cls_token': dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(
        type='OneCycleLR',
        eta_max=1e-4,
        total_steps=max_iters,
        pct_start=0.3,
        div_factor=25,
        final_div_factor=100,
        by_epoch=False,
    ),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, begin=0, end=10908, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, begin=10908, end=max_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 24)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
