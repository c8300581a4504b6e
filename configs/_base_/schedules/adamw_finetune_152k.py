# Fine-tuning of a foundation model as in UniMatch V2 (arXiv 2410.10777; supervised.py and its training
# logs): AdamW, decay 0.01 for every parameter, a 40 times lower rate for the backbone, polynomial decay
# without warm-up. 120 epochs of 1,263 iterations on ADE20K.
total_batch_size = 16
max_iters = 151560
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.01, fused=True),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=1 / 40)}),  # 5e-6
)
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=0, end=max_iters)]
# The published figure is the best of 120 validations; here are 12.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 12)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
