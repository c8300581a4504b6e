# DPT with DINOv2 ViT-L/14: the sizes and taps of UniMatch V2 (supervised.py, model_configs;
# model/semseg/dpt.py).
_base_ = ['dpt_dinov2-b14.py']
model = dict(
    backbone=dict(
        model_name='vit_large_patch14_dinov2',
        out_indices=(4, 11, 17, 23),
        init_cfg=dict(checkpoint='timm://vit_large_patch14_dinov2.lvd142m'),
    ),
    neck=dict(in_channels=1024, channels=256, post_process_channels=(256, 512, 1024, 1024)),
    decode_head=dict(in_channels=256),
)
