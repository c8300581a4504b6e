# DPT with DINOv3 ViT-B/16 and the decoder of DINOv2. Meta's biases of q and v are all zero in the ViTs
# distilled on LVD, so that timm's model has none; for weights with other biases append '_qkvb' to
# model_name.
_base_ = ['dpt_dinov2-b14.py']
model = dict(
    data_preprocessor=dict(test_cfg=dict(size_divisor=32)),
    backbone=dict(
        model_name='vit_base_patch16_dinov3',
        init_cfg=dict(checkpoint='timm://vit_base_patch16_dinov3.lvd1689m'),
    ),
)
