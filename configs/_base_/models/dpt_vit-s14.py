# DPT with ViT-S/14 in DINOv2's architecture (LayerScale, native grid 37x37). Differences from the published
# recipe: padding to multiples of 28 for testing, loss averaged over labelled pixels, LayerNorm epsilon of the
# pretraining, final norm applied to all taps (otherwise the first tap is 50 times smaller than the last).
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        test_cfg=dict(size_divisor=28),
    ),
    backbone=dict(
        type='VisionTransformer',
        img_size=518,
        patch_size=14,
        embed_dims=384,
        num_layers=12,
        num_heads=6,
        out_indices=(2, 5, 8, 11),
        layer_scale_init=1e-5,
        norm_eps=1e-6,
        norm_taps=True,
        interpolate_mode='bicubic',
        output_cls_token=True,
    ),
    neck=dict(
        type='DPTNeck',
        in_channels=384,
        channels=256,
        post_process_channels=(96, 192, 384, 768),
        readout_type='project',
    ),
    decode_head=dict(type='DPTHead', in_channels=256),
    loss=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    test_cfg=dict(mode='whole'),
)
