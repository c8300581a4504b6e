# The published recipe: 46.97 mIoU, 48.34 with multi-scale and flip (MMSegmentation, 8 GPUs x 2 images).
# All values are as published, even where better alternatives are known.
_base_ = [
    '_base_/models/dpt_vit-b16.py',
    '_base_/datasets/ade20k_512x512.py',
    '_base_/schedules/adamw_160k.py',
    '_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    # ViT-B/16 pretrained at 224 px. Converted by tools/model_converters/vit2mmseg.py from timm's
    # jx_vit_base_p16_224-80ecf9dd.pth; the README gives the command.
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrain/vit-b16_p16_224-80ecf9dd.pth')),
    decode_head=dict(num_classes=_base_.num_classes),
)
