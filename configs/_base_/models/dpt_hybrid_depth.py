# DPT-Hybrid for depth (arXiv 2103.13413), vitb_rn50_384 of isl-org/DPT and MiDaS 3.0: ViT-B on a ResNet-50
# stem, without norms in the neck, as MiDaS: inverse depth up to an unknown scale and shift. Input sides must
# be multiples of 32.
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='HybridVisionTransformer',
        img_size=384,
        stem_channels=64,
        stage_channels=(256, 512, 1024),
        stage_depths=(3, 4, 9),
        embed_dims=768,
        num_layers=12,
        num_heads=12,
        out_indices=(8, 11),
        interpolate_mode='bilinear',
    ),
    # The two finer levels are stages of the stem.
    neck=dict(
        type='DPTNeck',
        in_channels=768,
        channels=256,
        post_process_channels=(256, 512, 768, 768),
        identity_levels=(0, 1),
        readout_type='project',
        norm=None,
        residual_bias=True,
    ),
    decode_head=dict(type='DepthHead', in_channels=256, output='relu', relative=True),
    loss=dict(type='ScaleShiftInvariantLoss'),
    resize_mode='bicubic',
    align_corners=False,
)
