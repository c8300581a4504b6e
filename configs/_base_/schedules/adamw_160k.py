# AdamW with 1,500 iterations of linear warm-up, then linear decay to zero at 160,000.
total_batch_size = 16  # images per iteration, over all processes
optim_wrapper = dict(
    type='OptimWrapper',
    # fused updates the weights in one pass; the step is the same up to rounding.
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01, fused=True),
    # As published, weight decay applies to all parameters but these two, including norms.
    paramwise_cfg=dict(custom_keys={'pos_embed': dict(decay_mult=0.0), 'cls_token': dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=160000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
