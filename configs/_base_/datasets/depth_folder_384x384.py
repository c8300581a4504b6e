# Images and depth in any folders, resized as in MiDaS and the original DPT: the side that changes less
# becomes 384, both are multiples of 32. `depth_rescale_factor` converts the numbers in the files to metres:
# 0.001 for millimetres.
data_root = 'data/my_depth'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeToBound', scale=384, method='minimal', size_divisor=32, interpolation='bicubic'),
    dict(type='LoadDepthAnnotation'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [test_pipeline[1]],
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
