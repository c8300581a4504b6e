# ADE20K with the augmentation of UniMatch V2 (arXiv 2410.10777; dataset/semi.py): random scale, crop and
# flip alone. Ratios are of the image itself, and it is tested at its own size, so that no Resize is needed.
_base_ = ['ade20k_512x512.py']
crop_size = (518, 518)  # 37 patches of 14 pixels, the grid of DINOv2's pretraining
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResizeByRatio', ratio_range=(0.5, 2.0)),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_ratios_of = 'image'
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
