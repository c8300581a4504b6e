# Cityscapes with the augmentation of UniMatch V2 (arXiv 2410.10777; dataset/semi.py): random scale, crop
# and flip alone. Images are tested at their own size, 1024x2048, in windows.
_base_ = ['cityscapes_768x768.py']
crop_size = (798, 798)  # 57 patches of 14 pixels
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResizeByRatio', ratio_range=(0.5, 2.0)),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
tta_ratios_of = 'image'
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
