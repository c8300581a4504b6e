# Depth Anything V2 ViT-S/14 fine-tuned to metric depth on NYUv2 with the published recipe, which was used on
# Hypersim (max_depth=20) and Virtual KITTI (80): only the encoder's weights are loaded, the rest is trained
# from scratch, for 120 epochs. Second-hand figure on NYUv2: d1 0.961, AbsRel 0.073, RMSE 0.261.
_base_ = [
    '_base_/models/depth_anything_v2-s.py',
    '_base_/datasets/nyu.py',
    '_base_/schedules/depth_finetune.py',
    '_base_/depth_runtime.py',
]
max_iters = 90840
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrain/depth_anything_v2_vits.pth')),
    decode_head=dict(output='sigmoid', max_depth=10.0, relative=False),
    loss=dict(_delete_=True, type='SiLogLoss', variance_focus=0.5, per_image=False),
    min_depth=1e-3,
    max_depth=10.0,
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation'),
    dict(type='ResizeToBound', scale=518, method='lower_bound', size_divisor=14, interpolation='bicubic'),
    dict(type='RandomCrop', crop_size=(518, 518)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeToBound', scale=518, method='lower_bound', size_divisor=14, interpolation='bicubic'),
    dict(type='LoadDepthAnnotation'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [*test_pipeline[:2], _base_.tta_pipeline[-1]]  # with and without flip
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 120)
default_hooks = dict(checkpoint=dict(interval=max_iters // 120))
