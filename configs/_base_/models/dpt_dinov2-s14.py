# DPT with DINOv2 ViT-S/14: the sizes of UniMatch V2 (supervised.py, model_configs).
_base_ = ['dpt_dinov2-b14.py']
model = dict(
    backbone=dict(
        model_name='vit_small_patch14_dinov2',
        init_cfg=dict(checkpoint='timm://vit_small_patch14_dinov2.lvd142m'),
    ),
    neck=dict(in_channels=384, channels=64, post_process_channels=(48, 96, 192, 384)),
    decode_head=dict(in_channels=64),
)
