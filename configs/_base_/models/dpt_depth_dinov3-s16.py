# DPT over a frozen DINOv3 ViT-S/16, with the head and losses of DINOv2. DINOv3's own depth head
# (dinov3/eval/depth/models/dpt_head.py) predicts bins and has no class token.
_base_ = ['dpt_depth_dinov2-s14.py']
model = dict(
    data_preprocessor=dict(size_divisor=32, test_cfg=dict(size_divisor=32)),
    backbone=dict(
        model_name='vit_small_patch16_dinov3',
        output_cls_token=False,
        init_cfg=dict(checkpoint='timm://vit_small_patch16_dinov3.lvd1689m'),
    ),
    neck=dict(readout_type='ignore'),
)
