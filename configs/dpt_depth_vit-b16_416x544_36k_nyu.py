# DPT-Base on NYUv2 as in the Monocular-Depth-Estimation-Toolbox: AbsRel 0.135, RMSE 0.413 with flip (8 GPUs x
# 2 images, 24 epochs).
_base_ = [
    '_base_/models/dpt_depth_vit-b16.py',
    '_base_/datasets/nyu.py',
    '_base_/schedules/depth_onecycle.py',
    '_base_/depth_runtime.py',
]
model = dict(
    # ViT-B/16 pretrained at 224 px; see configs/dpt_vit-b16_512x512_160k_ade20k.py.
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrain/vit-b16_p16_224-80ecf9dd.pth')),
)
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
