# Images and depth in folders of your own: images/training/NAME.jpg and depth/training/NAME.png, and the same
# for validation. Pipelines of Depth Anything V2's fine-tuning (metric_depth/dataset/hypersim.py, train.py).
data_root = 'data/my_depth'
crop_size = (518, 518)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation'),
    dict(type='ResizeToBound', scale=518, method='lower_bound', size_divisor=14, interpolation='bicubic'),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeToBound', scale=518, method='lower_bound', size_divisor=14, interpolation='bicubic'),
    dict(type='LoadDepthAnnotation'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    *test_pipeline[:2],
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadDepthAnnotation')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseDepthDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', depth_map_path='depth/training'),
        depth_rescale_factor=0.001,  # files in millimetres
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='BaseDepthDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', depth_map_path='depth/validation'),
        depth_rescale_factor=0.001,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
