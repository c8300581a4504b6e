# The same with crops of 800x800: 50 patches of 16 pixels.
_base_ = ['cityscapes_798x798.py']
crop_size = (800, 800)
train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(type='RandomCrop', crop_size=crop_size),
    *_base_.train_pipeline[4:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
