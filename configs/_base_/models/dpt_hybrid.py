# DPT-Hybrid (arXiv 2103.13413), as isl-org/DPT's vitb_rn50_384: ViT-B behind a ResNet-50 stem, for inputs
# whose sides are multiples of 32, hence the padding. The config that uses it sets data_preprocessor.size, the
# number of classes and the auxiliary head.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='HybridVisionTransformer',
        img_size=384,
        stem_channels=64,
        stage_channels=(256, 512, 1024),
        stage_depths=(3, 4, 9),
        weight_eps=1e-5,
        embed_dims=768,
        num_layers=12,
        num_heads=12,
        out_indices=(8, 11),
        patch_bias=True,
        norm_eps=1e-6,
        final_norm=False,
        interpolate_mode='bilinear',
        output_cls_token=True,
    ),
    # The finer two levels are the stem's stages.
    neck=dict(
        type='DPTNeck',
        in_channels=768,
        channels=256,
        post_process_channels=(256, 512, 768, 768),
        identity_levels=(0, 1),
        readout_type='project',
        norm='BN',
    ),
    decode_head=dict(
        type='DPTHead',
        in_channels=256,
        channels=256,
        dropout_ratio=0.1,
        channel_dropout=False,
        upsample_factor=2,
        norm='BN',
    ),
    loss=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    auxiliary_loss=dict(type='CrossEntropyLoss', loss_weight=0.2, avg_non_ignore=True),
    test_cfg=dict(mode='whole'),
)
