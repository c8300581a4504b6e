# Depth Anything V2 ViT-S/14 fine-tuned to relative depth on pairs of your own. The whole model is loaded.
# Depth Anything published no code for this: the loss is that of MiDaS with the weight of the gradient term of
# Depth Anything V2 (arXiv 2406.09414: 2 beside 1), the rates are those of the metric fine-tuning. Number of
# iterations and batch size are ours.
_base_ = [
    '_base_/models/depth_anything_v2-s.py',
    '_base_/datasets/depth_own_518x518.py',
    '_base_/schedules/depth_finetune.py',
    '_base_/depth_runtime.py',
]
total_batch_size = 8
load_from = 'pretrain/depth_anything_v2_vits.pth'
model = dict(loss=dict(type='ScaleShiftInvariantLoss', alignment='median', trim=0.0, gradient_weight=2.0))
val_evaluator = dict(type='DepthMetric', inverse=True, alignment='least_squares_disparity')
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
