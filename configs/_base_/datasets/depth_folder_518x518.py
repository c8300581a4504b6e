# Images and depth in any folders, resized as in Depth Anything: no side is shorter than 518, both are
# multiples of 14. `depth_rescale_factor` converts the numbers in the files to metres: 0.001 for millimetres.
data_root = 'data/my_depth'
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
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='BaseDepthDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', depth_map_path='depth/validation'),
        depth_rescale_factor=0.001,
        pipeline=test_pipeline,
    ),
)
test_cfg = dict(type='TestLoop')
test_evaluator = dict(type='DepthMetric')
