# Depth Anything V2 with DINOv2 ViT-B/14 (arXiv 2406.09414; github.com/DepthAnything/Depth-Anything-V2,
# depth_anything_v2/dpt.py), relative: it predicts inverse depth up to an unknown scale and shift. Taps
# through the final norm, no class token, no batch norm.
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        test_cfg=dict(size_divisor=14),
    ),
    backbone=dict(
        type='VisionTransformer',
        img_size=518,
        patch_size=14,
        embed_dims=768,
        num_layers=12,
        num_heads=12,
        out_indices=(2, 5, 8, 11),
        layer_scale_init=1e-5,
        norm_taps=True,
        interpolate_offset=0.1,
        output_cls_token=False,
    ),
    neck=dict(
        type='DPTNeck',
        in_channels=768,
        channels=128,
        post_process_channels=(96, 192, 384, 768),
        readout_type='ignore',
        norm=None,
        residual_bias=True,
        odd_grids='lateral',
    ),
    decode_head=dict(type='DepthHead', in_channels=128, upsample_factor=1.75, output='relu', relative=True),
    loss=dict(type='ScaleShiftInvariantLoss'),
)
