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
    *_base_.test_pipeline[2:],
]
tta_pipeline = [*test_pipeline[:2], _base_.tta_pipeline[-1]]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_evaluator = dict(_delete_=True, type='DepthMetric', max_depth_eval=80.0)
