# DPT over a frozen DINOv2 ViT-B/14, as in DINOv2 (arXiv 2304.07193, table 11; dinov2/hub/depthers.py): taps
# without the final norm, class token by 'project', no norms in the neck. DINOv2 pads images to multiples of
# 14 on all sides, this one at the bottom and right.
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size_divisor=14,
        test_cfg=dict(size_divisor=14),
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='vit_base_patch14_dinov2',
        out_indices=(2, 5, 8, 11),
        norm_taps=False,
        output_cls_token=True,
        frozen_stages=12,
        # Downloaded once from huggingface.co; or the path of a file of timm, Meta or Hugging Face.
        init_cfg=dict(type='Pretrained', checkpoint='timm://vit_base_patch14_dinov2.lvd142m'),
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
    loss=[
        dict(
            type='SiLogLoss',
            variance_focus=0.85,
            per_image=False,
            unbiased=True,
            eps=1e-3,
            add_eps=True,
            warm_up_iters=100,
        ),
        dict(type='GradientLogLoss', loss_weight=0.5, strides=(1, 2, 4, 6)),
    ],
    test_cfg=dict(mode='whole'),
    align_corners=False,  # of resizing predictions to the depth
)
