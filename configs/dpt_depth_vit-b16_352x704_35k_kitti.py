# DPT-Base on KITTI as in the Monocular-Depth-Estimation-Toolbox: AbsRel 0.073, RMSE 2.604 with flip (8 GPUs x
# 2 images, 24 epochs).
_base_ = [
    '_base_/models/dpt_depth_vit-b16.py',
    '_base_/datasets/kitti.py',
    '_base_/schedules/depth_onecycle.py',
    '_base_/depth_runtime.py',
]
max_iters = 34752  # 24 epochs
model = dict(
    # ViT-B/16 pretrained at 224 px; see configs/dpt_vit-b16_512x512_160k_ade20k.py.
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrain/vit-b16_p16_224-80ecf9dd.pth')),
)
param_scheduler = [
    dict(_base_.param_scheduler[0], total_steps=max_iters),
    dict(_base_.param_scheduler[1], end=10426),
    dict(_base_.param_scheduler[2], begin=10426, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 24)
default_hooks = dict(checkpoint=dict(interval=max_iters // 24))
