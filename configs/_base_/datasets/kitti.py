# KITTI, the split of Eigen: 23,158 training and 652 test pairs (tools/prepare_kitti.py). Pipelines as in the
# Monocular-Depth-Estimation-Toolbox; the lower 352x1216 pixels, scores inside Garg's crop, from 1 mm to 80 m.
data_root = 'data/kitti'
crop_size = (352, 704)  # (height, width)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation'),
    dict(type='KBCrop'),
    dict(type='RandomRotate', prob=0.5, degree=2.5),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(
        type='ColorAug',
        prob=0.5,
        gamma_range=(0.9, 1.1),
        brightness_range=(0.9, 1.1),
        color_range=(0.9, 1.1),
    ),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='KBCrop'),
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
        type='KITTIDataset', data_root=data_root, ann_file='kitti_eigen_train.txt', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='KITTIDataset', data_root=data_root, ann_file='kitti_eigen_test.txt', pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='DepthMetric', min_depth_eval=1e-3, max_depth_eval=80.0, crop_type='garg_crop', depth_clamp=True
)
test_evaluator = val_evaluator
