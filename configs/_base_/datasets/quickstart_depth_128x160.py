# Synthetic scenes with depth from tools/make_quickstart_data.py --depth: about 160x120 pixels, 3 to 20 m.
data_root = 'data/quickstart_depth'
min_depth, max_depth = 1e-3, 25.0  # metres
test_scale = (160, 128)  # (width, height)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation'),
    dict(type='Resize', scale=test_scale),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=test_scale),
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
data = dict(type='BaseDepthDataset', data_root=data_root, depth_rescale_factor=1 / 256)
train_dataloader = dict(
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **data,
        data_prefix=dict(img_path='images/training', depth_map_path='depth/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        **data,
        data_prefix=dict(img_path='images/validation', depth_map_path='depth/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='DepthMetric', min_depth_eval=min_depth, max_depth_eval=max_depth)
test_evaluator = val_evaluator
