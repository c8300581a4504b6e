# DPT with ViT-B/16 for depth, as in the Monocular-Depth-Estimation-Toolbox (configs/_base_/models/dpt.py,
# depth/models/decode_heads/dpt_head.py): no norms in the neck, a 3x3 convolution first in the head, and
# relu(x) + min_depth. It trains on every measured depth.
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], bgr_to_rgb=True
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
        norm=None,
    ),
    decode_head=dict(type='DepthHead', in_channels=256, output='relu', min_depth=1e-3, project=True),
    loss=dict(
        type='SiLogLoss',
        variance_focus=0.85,
        per_image=False,
        unbiased=True,
        eps=1e-3,
        add_eps=True,
        warm_up_iters=100,
    ),
    test_cfg=dict(mode='whole'),
    align_corners=False,  # of resizing predictions to the depth
)
