# DPT over a frozen DINOv2 ViT-B/14 on NYUv2: RMSE 0.317 (arXiv 2304.07193, table 11; the published
# config tests with flip).
_base_ = [
    '_base_/models/dpt_depth_dinov2-b14.py',
    '_base_/datasets/nyu.py',
    '_base_/schedules/depth_frozen_38k.py',
    '_base_/depth_runtime.py',
]
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
