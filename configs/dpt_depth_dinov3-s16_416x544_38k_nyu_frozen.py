# DPT over a frozen DINOv3 on NYUv2, trained as over DINOv2. No published figure.
_base_ = [
    '_base_/models/dpt_depth_dinov3-s16.py',
    '_base_/datasets/nyu.py',
    '_base_/schedules/depth_frozen_38k.py',
    '_base_/depth_runtime.py',
]
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
