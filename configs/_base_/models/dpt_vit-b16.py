# DPT with ViT-B/16 (arXiv 2103.13413), as in MMSegmentation. Configs that inherit from this one set
# model.decode_head.num_classes and model.data_preprocessor.size.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='VisionTransformer',
        img_size=224,
        patch_size=16,
        embed_dims=768,
        num_layers=12,
        num_heads=12,
        out_indices=(2, 5, 8, 11),
        patch_bias=True,
        norm_eps=1e-5,
        final_norm=False,
        interpolate_mode='bicubic',
        output_cls_token=True,
    ),
    neck=dict(
        type='DPTNeck',
        in_channels=768,
        channels=256,
        post_process_channels=(96, 192, 384, 768),
        readout_type='project',
        norm='BN',
    ),
    decode_head=dict(type='DPTHead', in_channels=256, norm='BN'),
    auxiliary_heads=None,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0, avg_non_ignore=False),
    test_cfg=dict(mode='whole'),
)
