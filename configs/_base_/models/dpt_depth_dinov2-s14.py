# DPT over a frozen DINOv2 ViT-S/14.
_base_ = ['dpt_depth_dinov2-b14.py']
model = dict(
    backbone=dict(
        model_name='vit_small_patch14_dinov2',
        init_cfg=dict(checkpoint='timm://vit_small_patch14_dinov2.lvd142m'),
    ),
    neck=dict(in_channels=384, post_process_channels=(48, 96, 192, 384)),
)
