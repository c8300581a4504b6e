# A head over a frozen backbone as in DINOv2 (dinov2_vitl14_nyu_dpt_config.py, which Meta publishes beside the
# weights): 12,800 iterations of linear warm-up, cosine decay, momentum from 0.95 to 0.85 and back.
total_batch_size = 16
max_iters = 38400
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.95, 0.999), weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=12800),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-8, by_epoch=False, begin=0, end=max_iters),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, begin=0, end=11520, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, begin=11520, end=max_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=1600)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
