# Fine-tuning of Depth Anything V2 (metric_depth/train.py, dist_train.sh): AdamW, 5e-6 for the encoder and ten
# times as much for the rest, polynomial decay without warm-up; 8 GPUs x 4 images. Configs that inherit from
# this one set the number of iterations.
total_batch_size = 32
max_iters = 10000
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, betas=(0.9, 0.999), weight_decay=0.01, fused=True),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),  # 5e-6
)
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=0, end=max_iters)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 20)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
