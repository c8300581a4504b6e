# DPT-Hybrid fine-tuned on NYUv2 (arXiv 2103.13413), in metres. Loads dpt_hybrid_nyu-2ce69ec7.pt of
# isl-org/DPT; scale, shift and size are those of its run_monodepth.py.
_base_ = ['dpt_hybrid_midas.py']
model = dict(
    decode_head=dict(output='reciprocal', relative=False, scale=0.000305, shift=0.1378),
    loss=dict(_delete_=True, type='SiLogLoss'),
    max_depth=10.0,
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeToBound', scale=(640, 480), method='minimal', size_divisor=32, interpolation='bicubic'),
    *_base_.test_pipeline[2:],
]
tta_pipeline = [*test_pipeline[:2], _base_.tta_pipeline[-1]]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_evaluator = dict(_delete_=True, type='DepthMetric', max_depth_eval=10.0)
