# DPT-Hybrid fine-tuned on KITTI (arXiv 2103.13413), in metres. Loads dpt_hybrid_kitti-cb926ef4.pt of
# isl-org/DPT; scale, shift and size are those of its run_monodepth.py.
_base_ = ['dpt_hybrid_midas.py']
model = dict(
    decode_head=dict(output='reciprocal', relative=False, scale=0.00006016, shift=0.00579),
    loss=dict(_delete_=True, type='SiLogLoss'),
    max_depth=80.0,
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeToBound', scale=(1216, 352), method='minimal', size_divisor=32, interpolation='bicubic'),
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
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_evaluator = dict(_delete_=True, type='DepthMetric', max_depth_eval=80.0)
