# DPT-Hybrid with the original architecture; tools/model_converters/isl2dpt.py converts dpt_hybrid-ade20k.
# The original training code is not published (the paper reports SGD, 240 epochs, batch 48, crops of 480), so
# data, optimiser and schedule are those of the other ADE20K configs. No mIoU is known for this training.
# For testing, the original resizes the shorter side to about 480 and upsamples logits bicubically. This
# config resizes images to fit (2048, 512), and all resizing is bilinear.
_base_ = [
    '_base_/models/dpt_hybrid.py',
    '_base_/datasets/ade20k_512x512.py',
    '_base_/schedules/adamw_160k.py',
    '_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    # R50+ViT-B/16 pretrained at 384 px; a file of timm, which now calls the model vit_base_r50_s16_384.
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='pretrain/jx_vit_base_resnet50_384-9fd3c705.pth')
    ),
    decode_head=dict(num_classes=_base_.num_classes),
    # Auxiliary head on the penultimate fusion map, as in the paper; the original checkpoint has its weights.
    auxiliary_heads=[
        dict(type='FCNHead', in_channels=256, num_classes=_base_.num_classes, channel_dropout=False)
    ],
)
