# DPT-Large (arXiv 2103.13413), vitl16_384 of isl-org/DPT. Input sides must be multiples of 32, hence the
# padding. Configs that inherit from this one set data_preprocessor.size, num_classes and the auxiliary head.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='VisionTransformer',
        img_size=384,
        patch_size=16,
        embed_dims=1024,
        num_layers=24,
        num_heads=16,
        out_indices=(5, 11, 17, 23),
        patch_bias=True,
        norm_eps=1e-6,
        final_norm=False,
        interpolate_mode='bilinear',
        output_cls_token=True,
    ),
    neck=dict(
        type='DPTNeck',
        in_channels=1024,
        channels=256,
        post_process_channels=(256, 512, 1024, 1024),
        readout_type='project',
        norm='BN',
    ),
    decode_head=dict(
        type='DPTHead',
        in_channels=256,
        channel_dropout=False,
        upsample_factor=2,
        norm='BN',
    ),
    loss=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    auxiliary_loss=dict(type='CrossEntropyLoss', loss_weight=0.2, avg_non_ignore=True),
    test_cfg=dict(mode='whole'),
)
