# DPT with DINOv2 ViT-B/14 as in UniMatch V2 (arXiv 2410.10777; github.com/LiheYoung/UniMatch-V2,
# model/semseg/dpt.py and supervised.py): taps through the final norm, no class token, no batch norm, and a
# 3x3 convolution, ReLU and a 1x1 classifier without dropout. Differences: the residual units have no biases,
# logits are upsampled with align_corners=False, and an odd coarsest grid is rounded up, not cut off.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        test_cfg=dict(size_divisor=14),  # instead of resizing to the nearest multiple of 14
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='vit_base_patch14_dinov2',
        out_indices=(2, 5, 8, 11),
        norm_taps=True,
        output_cls_token=False,
        # Downloaded once from huggingface.co; or the path of a file of timm, Meta or Hugging Face.
        init_cfg=dict(type='Pretrained', checkpoint='timm://vit_base_patch14_dinov2.lvd142m'),
    ),
    neck=dict(
        type='DPTNeck',
        in_channels=768,
        channels=128,
        post_process_channels=(96, 192, 384, 768),
        readout_type='ignore',
        norm=None,
    ),
    decode_head=dict(type='DPTHead', in_channels=128, dropout_ratio=0.0, norm=None),
    loss=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    test_cfg=dict(mode='whole'),
)
